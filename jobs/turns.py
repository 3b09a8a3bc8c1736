"""Finds where turns begin in a conversation, and leaves some of them out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .record import TurnSlice

# Messages of these roles are rules: those before the first turn belong to every turn.
RULES: Final = ("system", "developer")


def turns(shown: list[dict[str, Any]]) -> list[int]:
    """Where turns begin: with what the user says, unless a result of a call before it follows.

    A result without its call would be refused.
    """
    ends = _results(shown)
    begun: list[int] = []
    until = 0  # where the last result of the calls so far is
    for n, one in enumerate(shown):
        until = max(until, ends.get(n, 0))
        if one.get("role") == "user" and n >= until:
            begun.append(n)
    return begun


def clip(turns: Iterable[TurnSlice], start: int, stop: int) -> list[TurnSlice]:
    """Returns what turns hold of the items from index `start` to before `stop`, of all theirs."""
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
    """The index of the result of each call that is an item, by the index of the call."""
    following: dict[str, int] = {}  # id -> its next result
    ends: dict[int, int] = {}
    for n, one in reversed(list(enumerate(shown))):
        if one.get("type") == "function_call_output":
            following[one["call_id"]] = n
        elif one.get("type") == "function_call" and one["call_id"] in following:
            ends[n] = following[one["call_id"]]
    return ends
