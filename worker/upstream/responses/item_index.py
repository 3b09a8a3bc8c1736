"""Finds the items of an upstream's stream by their ids, their indexes or their text.

Items may share an index, and the ids of an item may be missing or differ in each event. A known id
identifies its item. An unknown id at a known index belongs to a new item if the ids of that index
are reliable, which means that one of them was repeated. Otherwise it is another id of the item at
that index.
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
        """Returns the item with this id, or None."""
        return self._by_id.get(id_) if isinstance(id_, str) else None

    def find(
        self, event: Event, type_: str | None = None, whole: Item | None = None
    ) -> UpstreamItem | None:
        """Returns the item of an event, or None if it is new.

        The item must have the type `type_`, if given. `whole` is the complete item in the event, if
        the event has one.
        """
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
        # If an id of the item was repeated, the ids are reliable: another id means another item.
        if held.confirmed and not (whole and _continues(whole, held.item)):
            return None
        held.ids.add(id_)
        self._by_id[id_] = held
        return held

    def find_or_new(self, event: Event, type_: str) -> UpstreamItem:
        """Returns the item of an event, and adds one if there is none."""
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
        """Returns the known item that the last event lists as `whole` at `index`, or None.

        `matched` are the Python ids of the items that were already found. `ids` are the item ids of
        all listed items; a known item with one of these ids can match only the item listed with it.
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
    """Returns True if the items have the same type and `whole` begins with the text so far."""
    return whole.get("type") == sofar.get("type") and text_of(whole).startswith(text_of(sofar))
