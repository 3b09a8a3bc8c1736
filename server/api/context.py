"""Bounds the size of a prompt: its input, the previous turns and the items that it references."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, Final

import msgspec

from jobs.record import TurnSlice
from jobs.turns import RULES, clip, turns

from .problem import Problem

Item = dict[str, Any]

# The maximum number of items in the input and the previous turns together. The limit is needed
# because an item takes more memory than its encoded bytes.
MAX_ITEMS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Context:
    """The items that precede a request's own items, oldest first, and their size as MessagePack.

    `turns` lists the stored turns that the items come from. The list is empty if the turns are
    unstored and only a socket remembers them. `source` is the parameter that named the items.
    `void_calls` contains the call ids of void attempts of the previous response, of responses that
    the input refers to, and of earlier responses if the input has results of their void calls.
    """

    items: list[Item] = field(default_factory=list)
    turns: list[TurnSlice] = field(default_factory=list)
    bytes: int = 0
    source: str = "previous_response_id"
    void_calls: frozenset[str] = frozenset()

    def without(self, first: int, stop: int, size: int) -> Context:
        """Returns the context without the items in `[first, stop)`.

        `size` is the size of the remaining items in bytes.
        """
        items = self.items[:first] + self.items[stop:]
        turns = clip(self.turns, 0, first) + clip(self.turns, stop, len(self.items))
        return replace(self, items=items, turns=turns, bytes=size)


def void_calls(response: dict[str, Any]) -> frozenset[str]:
    """Returns the ids of the calls in void attempts of a finished response."""
    return frozenset(response.get("holdline", {}).get("void_calls", ()))


_pack = msgspec.msgpack.Encoder().encode


def packed_bytes(value: Any) -> int:
    """Returns the stored size of a value, which is its size in bytes as MessagePack."""
    return len(_pack(value))


def fitting(
    context: Context, items: list[Item], left: int, max_bytes: int, truncation: str | None
) -> Context:
    """Returns the context, followed by `items`, if it fits into the remaining `left` bytes.

    With `truncation` "auto", the oldest turns are dropped until the result fits. The system and
    developer messages before the first turn are kept, and a function call is never separated from
    its result.

    Raises: Problem.
    """
    most = MAX_ITEMS - len(items)
    before = context.items
    sizes = list(accumulate(map(packed_bytes, before), initial=0))
    if sizes[-1] <= left and len(before) <= most:
        return context if sizes[-1] == context.bytes else replace(context, bytes=sizes[-1])
    rules = next((n for n, one in enumerate(before) if one.get("role") not in RULES), len(before))
    if truncation == "auto":
        for cut in turns(before + items):
            if cut > len(before):
                break
            size = sizes[rules] + sizes[-1] - sizes[cut]
            if cut > rules and size <= left and rules + len(before) - cut <= most:
                return context.without(rules, cut, size)
    if len(before) > most:
        raise too_many_items(context.source)
    raise too_large(context.source, max_bytes)


def too_large(param: str, max_bytes: int) -> Problem:
    """Returns the error for a prompt with too many bytes; `param` names the field at fault."""
    return _refusal(param, f"{max_bytes} bytes")


def too_many_items(param: str) -> Problem:
    """Returns the error for a prompt with too many items; `param` names the field at fault."""
    return _refusal(param, f"{MAX_ITEMS} items")


def _refusal(param: str, limit: str) -> Problem:
    return Problem(
        400,
        "context_too_large",
        f"'{param}' makes the prompt exceed {limit}, including its earlier turns, referenced items "
        "and template. Send less, or start a new conversation.",
        param=param,
    )
