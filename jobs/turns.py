"""Finds where the turns of a conversation begin, and selects a range of the items in turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .log.items import CALL_TYPES, RESULT_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .record import TurnSlice

# The roles of messages that contain instructions. Instructions before the first turn apply to all
# turns.
RULES: Final = ("system", "developer")


def turns(shown: list[dict[str, Any]]) -> list[int]:
    """Returns the indexes of the items at which turns begin.

    A turn begins at a user message, but not between a tool call and its result. If a conversation
    were cut there, the endpoint would reject the result, because its call is missing.
    """
    ends = _results(shown)
    begun: list[int] = []
    until = 0  # the index of the last result of any call so far
    for n, one in enumerate(shown):
        until = max(until, ends.get(n, 0))
        if one.get("role") == "user" and n >= until:
            begun.append(n)
    return begun


def clip(turns: Iterable[TurnSlice], start: int, stop: int) -> list[TurnSlice]:
    """Returns the parts of turns that are in a range of their items.

    The indexes `start` and `stop` count the items of all turns in sequence. The item at `stop` is
    not in the range.
    """
    clipped = []
    begin = 0
    for turn in turns:
        first = turn.first + max(start - begin, 0)
        last = min(turn.stop, turn.first + stop - begin)
        if first < last:
            last_item = turn.last_item if last == turn.stop else ""
            clipped.append(turn._replace(first=first, stop=last, last_item=last_item))
        begin += turn.stop - turn.first
    return clipped


def _results(shown: list[dict[str, Any]]) -> dict[int, int]:
    """Maps the index of each tool call to the index of its result.

    Calls without a result are omitted.
    """
    following: dict[str, int] = {}  # maps a call id to the index of its next result
    ends: dict[int, int] = {}
    for n, one in reversed(list(enumerate(shown))):
        kind, call_id = one.get("type"), one.get("call_id")
        if kind in RESULT_TYPES:
            following[call_id or one.get("id", "")] = n
        elif kind in CALL_TYPES and call_id in following:
            ends[n] = following[call_id]
    return ends
