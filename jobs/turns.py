"""Finds the beginnings of turns in a conversation, and clips a range of its items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .record import TurnSlice

# Messages with these roles are instructions: those before the first turn apply to every turn.
RULES: Final = ("system", "developer")


def turns(shown: list[dict[str, Any]]) -> list[int]:
    """Returns the indexes at which turns begin.

    A turn begins at a user message, except between a tool call and its result: a model endpoint
    refuses a result without its call.
    """
    ends = _results(shown)
    begun: list[int] = []
    until = 0  # the index of the last result of the calls so far
    for n, one in enumerate(shown):
        until = max(until, ends.get(n, 0))
        if one.get("role") == "user" and n >= until:
            begun.append(n)
    return begun


def clip(turns: Iterable[TurnSlice], start: int, stop: int) -> list[TurnSlice]:
    """Clips turns to a range of their items.

    The indexes `start` and `stop` count the items of all turns in sequence; `stop` is excluded.
    """
    clipped = []
    begin = 0
    for turn in turns:
        first = turn.first + max(start - begin, 0)
        last = min(turn.stop, turn.first + stop - begin)
        if first < last:
            clipped.append(turn._replace(first=first, stop=last))
        begin += turn.stop - turn.first
    return clipped


def _results(shown: list[dict[str, Any]]) -> dict[int, int]:
    """Returns the index of each tool call's result, by the index of the call.

    A call without a result is left out.
    """
    following: dict[str, int] = {}  # call id -> the index of its next result
    ends: dict[int, int] = {}
    for n, one in reversed(list(enumerate(shown))):
        if one.get("type") == "function_call_output":
            following[one["call_id"]] = n
        elif one.get("type") == "function_call" and one["call_id"] in following:
            ends[n] = following[one["call_id"]]
    return ends
