"""The items of an upstream that speaks the standard, under our ids and indexes.

Items that are not known here pass intact. What an item adds up to is kept, so that one that was
left open can be ended; the upstream's own last word on it is what counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from jobs.log import items
from jobs.log.items import ARGUMENTS, Place

from .chat_chunks import Malformed

if TYPE_CHECKING:
    from jobs.log.codec import Event
    from jobs.log.items import Item

# Deltas of text, of which several may become one -> the kind of their place.
_KINDS: Final = {
    "response.output_text.delta": "output_text",
    "response.refusal.delta": "refusal",
    "response.reasoning_text.delta": "reasoning_text",
    "response.reasoning_summary_text.delta": "summary_text",
    "response.function_call_arguments.delta": ARGUMENTS,
}
_PREFIX: Final = re.compile(r"[a-z]{1,8}(?=_)", re.ASCII)
_DROPPED: Final = ("sequence_number", "obfuscation", "response_id")


@dataclass(frozen=True, slots=True)
class PlacedText:
    """A piece of text at its place. `ItemTranslator.grow` takes as much of it as fits."""

    place: Place
    text: str
    logprobs: list[Any] | None
    number: int
    event: Event


@dataclass(slots=True)
class _Item:
    index: int
    item: Item
    done: bool = False


class ItemTranslator:
    """`name` gives an item its id from a prefix and an index, `take_index` the next index."""

    def __init__(self, name: Callable[[str, int], str], take_index: Callable[[], int]) -> None:
        self._name = name
        self._take_index = take_index
        self._items: dict[int, _Item] = {}

    def translate(self, event: Event) -> Event | PlacedText:
        """The event under our ids. Raises: Malformed, for one that does not fit those before it."""
        try:
            return self._translate(event)
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise Malformed(type(error).__name__) from None

    def grow(self, placed: PlacedText, text: str) -> None:
        """So much of the piece is part of its item now. Raises: Malformed."""
        try:
            items.apply(self._items[placed.number].item, {**placed.event, "delta": text})
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise Malformed(type(error).__name__) from None

    def open(self) -> list[tuple[int, Item]]:
        """The items that are not done, with their indexes."""
        return [(one.index, one.item) for one in self._items.values() if not one.done]

    def _translate(self, event: Event) -> Event | PlacedText:
        kind, number = event["type"], event["output_index"]
        if kind == "response.output_item.added":
            if number in self._items:
                raise Malformed("an item that was there")
            index = self._take_index()
            self._items[number] = _Item(index, self._renamed(event["item"], index))
            return items.added(index, deepcopy(self._items[number].item))
        held = self._items[number]
        if held.done:
            raise Malformed("an item that was done")
        if kind == "response.output_item.done":
            held.item, held.done = self._renamed(event["item"], held.index), True
            return {"type": kind, "output_index": held.index, "item": held.item}
        translated = {name: value for name, value in event.items() if name not in _DROPPED}
        translated["output_index"] = held.index
        if "item_id" in translated:
            translated["item_id"] = held.item["id"]
        if (place := _place(translated)) is None:
            items.apply(held.item, translated)
            return translated
        return PlacedText(
            place, translated["delta"], translated.get("logprobs"), number, translated
        )

    def _renamed(self, item: Item, index: int) -> Item:
        """The item with an id of ours, which keeps the upstream's prefix."""
        if item["type"] == "function_call" and not _is_call(item):
            raise Malformed("a call without a name or arguments")
        prefix = _PREFIX.match(str(item.get("id") or "")) or _PREFIX.match(f"{item['type']}_")
        return {**item, "id": self._name(prefix[0] if prefix else "item", index)}


def _is_call(item: Item) -> bool:
    return all(isinstance(item.get(name), str) for name in ("name", "arguments"))


def _place(event: Event) -> Place | None:
    kind = _KINDS.get(event["type"])
    if kind is None:
        return None
    part = 0
    if kind != ARGUMENTS:
        part = event["summary_index" if kind == "summary_text" else "content_index"]
    if not isinstance(event["delta"], str) or not isinstance(part, int):
        raise Malformed("a delta that is not text")
    return Place(kind, event["item_id"], event["output_index"], part)
