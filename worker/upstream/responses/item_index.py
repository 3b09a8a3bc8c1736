"""Finds the items of an upstream's stream by their ids, their indexes or their text.

In some streams several items share an index, and the id of an item is missing or differs in each
event. These rules apply: A known id identifies its item. An unknown id at a known index belongs to
a new item if the ids at that index are reliable, which means that one of them was repeated. If the
ids are not reliable, the unknown id belongs to the item at that index.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from .upstream_item import UpstreamItem, check_names, text_of

if TYPE_CHECKING:
    from jobs.checkpoint import Row
    from jobs.log.codec import Event
    from jobs.log.items import Item


class ItemIndex:
    """All items of one upstream stream, with their ids and indexes."""

    def __init__(self) -> None:
        self.items: list[UpstreamItem] = []
        self._by_id: dict[str, UpstreamItem] = {}
        self._by_index: dict[int, UpstreamItem] = {}

    def by_id(self, id_: Any) -> UpstreamItem | None:
        """Returns the item with the upstream id `id_`, or None."""
        return self._by_id.get(id_) if isinstance(id_, str) else None

    def find(
        self, event: Event, type_: str | None = None, whole: Item | None = None
    ) -> UpstreamItem | None:
        """Returns the item that an event belongs to, or None if the item is new.

        If `type_` is given, the item must have this type. `whole` is the complete item in the
        event, if the event has one.
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
        # If the stream has repeated an id of this item, its ids are reliable, so another id means
        # another item.
        if held.confirmed and not (whole and _continues(whole, held.item)):
            return None
        held.ids.add(id_)
        self._by_id[id_] = held
        return held

    def rows(self) -> list[Row] | None:
        """Returns the rows of a checkpoint, or None if the log lacks something of an item."""
        if not all(one.is_in_log for one in self.items):
            return None
        indexes = {id(one): index for index, one in self._by_index.items()}
        return [
            [
                one.index,
                indexes.get(id(one), -1),
                one.done,
                [*one.ids],
                [] if one.done else [[*key, at] for key, at in one.parts.items()],
            ]
            for one in self.items
        ]

    def restore(self, rows: list[Row], items: dict[int, Item]) -> None:
        """Adds the items of a checkpoint. `items` are the items of the log, by output index."""
        for at, index, done, ids, parts in rows:
            item = items[at]
            one = UpstreamItem(
                item["type"], item, at, announced=True, ids=set(ids), confirmed=True, done=done
            )
            one.parts = {(group, number, kind): ours for group, number, kind, ours in parts}
            self.items.append(one)
            self._by_id |= dict.fromkeys(ids, one)
            if index >= 0:
                self._by_index[index] = one

    def find_or_new(self, event: Event, type_: str) -> UpstreamItem:
        """Returns the item that an event belongs to, and adds an item if it is new."""
        return self.find(event, type_) or self.new(
            {"type": type_, "id": event.get("item_id")}, event
        )

    def new(self, item: Item, event: Event) -> UpstreamItem:
        """Adds an item with the id and the index in its first event.

        Raises: TypeError, KeyError for an item without a type.
        """
        check_names(item)
        if not isinstance(item["type"], str):
            raise TypeError("the type of an item is not text")
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
        """Returns the known item that the last event lists at `index`, or None.

        `whole` is the listed item. `matched` are the Python object ids of the items that were found
        already. `ids` are the ids of all listed items. A known item with one of these ids can match
        only the listed item with the same id.
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
    """Returns True if the items have the same type, and the text of `whole` continues `sofar`."""
    return whole.get("type") == sofar.get("type") and text_of(whole).startswith(text_of(sofar))
