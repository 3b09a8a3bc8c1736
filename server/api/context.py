"""Bounds what a request becomes: its input, the turns before it and the items that it refers to."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, Final

import msgspec

from jobs.turns import RULES, turns

from .problem import Problem

Item = dict[str, Any]

# Of the input and the turns before it. An item takes memory that its bytes do not show.
MAX_ITEMS: Final = 10_000

_pack = msgspec.msgpack.Encoder().encode


def packed_bytes(value: Any) -> int:
    """The size of a value as it is stored."""
    return len(_pack(value))


def fitting(
    context: list[Item], items: list[Item], left: int, max_bytes: int, truncation: str | None
) -> list[Item]:
    """Returns the context if it fits into the bytes left, with `items` behind it.

    With `truncation` "auto" the oldest turns are left out until it does; the rules before the first
    turn stay, and a call stays with its result. Raises: Problem.
    """
    most = MAX_ITEMS - len(items)
    sizes = [packed_bytes(item) for item in context]
    if sum(sizes) <= left and len(context) <= most:
        return context
    rules = next((n for n, one in enumerate(context) if one.get("role") not in RULES), len(context))
    before = list(accumulate(sizes, initial=0))
    if truncation == "auto":
        for cut in turns(context + items):
            if cut > len(context):
                break
            size = before[rules] + before[-1] - before[cut]
            if cut > rules and size <= left and rules + len(context) - cut <= most:
                return context[:rules] + context[cut:]
    if len(context) > most:
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
