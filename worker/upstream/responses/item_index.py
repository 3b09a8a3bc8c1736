"""The items of an upstream's stream, found by their ids, their indexes or their text.

Items may share an index, and ids may differ in each event or be missing. An id that was seen names
its item. Another id at an index is another item's if the ids there can be relied on, because one of
them came again; else it is one more name of the item at that index.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from .upstream_item import UpstreamItem, text_of

if TYPE_CHECKING:
    from jobs.log.codec import Event
    from jobs.log.items import Item


class ItemIndex:
    """All items of one stream."""

    def __init__(self) -> None:
        self.items: list[UpstreamItem] = []
        self._by_id: dict[str, UpstreamItem] = {}
        self._by_index: dict[int, UpstreamItem] = {}

    def by_id(self, id_: Any) -> UpstreamItem | None:
        """The item with this id, if there is one."""
        return self._by_id.get(id_) if isinstance(id_, str) else None

    def find(
        self, event: Event, type_: str | None = None, whole: Item | None = None
    ) -> UpstreamItem | None:
        """The item of an event, if there is one; `type_` is what it has to be."""
        id_ = event.get("item_id") or (whole or {}).get("id")
        if (known := self.by_id(id_)) is not None:
            known.confirmed = True
            return known
        held: UpstreamItem | None = self._by_index.get(event.get("output_index", -1))
        if held is None and event.get("output_index") is None and not id_:
            held = next((one for one in reversed(self.items) if not one.done), None)
        if held is None or type_ not in (None, held.type):
            return None
        if held.done and (id_ or whole):
            return None
        if not id_ or not held.ids:
            return held
        # Where an item's id came again ids can be relied on, and another one is another item's.
        if held.confirmed and not (whole and _continues(whole, held.item)):
            return None
        held.ids.add(id_)
        self._by_id[id_] = held
        return held

    def find_or_new(self, event: Event, type_: str) -> UpstreamItem:
        """The item of an event, which is added if there is none."""
        return self.find(event, type_) or self.new(
            {"type": type_, "id": event.get("item_id")}, event
        )

    def new(self, item: Item, event: Event) -> UpstreamItem:
        """Adds an item, with the id and the index of its first event."""
        held = UpstreamItem(item["type"], deepcopy(item))
        self.items.append(held)
        if isinstance(index := event.get("output_index"), int):
            self._by_index[index] = held
        if isinstance(id_ := item.get("id") or event.get("item_id"), str):
            held.ids.add(id_)
            self._by_id[id_] = held
        return held

    def listed(
        self, whole: Item, index: int, matched: set[int], ids: set[Any]
    ) -> UpstreamItem | None:
        """The item that the last event lists at this index, if it was there before.

        `ids` are those of all listed items: an item with one of them is no other one's.
        """
        if (known := self.by_id(whole.get("id"))) is not None:
            return known
        free = [
            one
            for one in self.items
            if id(one) not in matched and one.type == whole["type"] and not one.ids & ids
        ]
        at_index = self._by_index.get(index)
        if at_index in free and (not at_index.confirmed or _continues(whole, at_index.item)):
            return at_index
        return next((one for one in free if _continues(whole, one.item)), None)


def _continues(whole: Item, sofar: Item) -> bool:
    """True if the text of the whole item begins with the text received so far."""
    return whole.get("type") == sofar.get("type") and text_of(whole).startswith(text_of(sofar))
