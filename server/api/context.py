"""Bounds what a request becomes: its input, the turns before it and the items that it refers to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, Final

import msgspec

from jobs.record import TurnSlice
from jobs.turns import RULES, clip, turns

from .problem import Problem

Item = dict[str, Any]

# Of the input and the turns before it. An item takes memory that its bytes do not show.
MAX_ITEMS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Context:
    """The items before a request's own, oldest first, and their size as MessagePack.

    `turns` are the stored turns that they come from; it is empty if only a socket remembers them.
    """

    items: list[Item] = field(default_factory=list)
    turns: list[TurnSlice] = field(default_factory=list)
    bytes: int = 0

    def without(self, first: int, stop: int, size: int) -> Context:
        """Leaves out the items from `first` to before `stop`; the others have this size."""
        return Context(
            self.items[:first] + self.items[stop:],
            clip(self.turns, 0, first) + clip(self.turns, stop, len(self.items)),
            size,
        )


_pack = msgspec.msgpack.Encoder().encode


def packed_bytes(value: Any) -> int:
    """The size of a value as it is stored."""
    return len(_pack(value))


def fitting(
    context: Context, items: list[Item], left: int, max_bytes: int, truncation: str | None
) -> Context:
    """Returns the context if it fits into the bytes left, with `items` behind it.

    With `truncation` "auto" the oldest turns are left out until it does; the rules before the first
    turn stay, and a call stays with its result. Raises: Problem.
    """
    most = MAX_ITEMS - len(items)
    before = context.items
    sizes = list(accumulate(map(packed_bytes, before), initial=0))
    if sizes[-1] <= left and len(before) <= most:
        return replace(context, bytes=sizes[-1])
    rules = next((n for n, one in enumerate(before) if one.get("role") not in RULES), len(before))
    if truncation == "auto":
        for cut in turns(before + items):
            if cut > len(before):
                break
            size = sizes[rules] + sizes[-1] - sizes[cut]
            if cut > rules and size <= left and rules + len(before) - cut <= most:
                return context.without(rules, cut, size)
    if len(before) > most:
        raise too_many_items("previous_response_id")
    raise too_large("previous_response_id", max_bytes)


def too_large(param: str, max_bytes: int) -> Problem:
    """The refusal of a prompt with too many bytes; `param` names the field that has them."""
    return _refusal(param, f"{max_bytes} bytes")


def too_many_items(param: str) -> Problem:
    """The refusal of a prompt with too many items."""
    return _refusal(param, f"{MAX_ITEMS} items")


def _refusal(param: str, limit: str) -> Problem:
    return Problem(
        400,
        "context_too_large",
        f"With '{param}' the prompt has more than {limit}, counting the turns before it, the items "
        "that it refers to and its template. Send less, or begin a new conversation.",
        param=param,
    )
