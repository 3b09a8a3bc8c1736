"""Computes the state of a response from the events of its log.

The server, the worker and the recovery of lost jobs all use this module, so they always agree on
the state of a response.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from . import items as item_events
from .events import CONTINUED, RESTARTED, TERMINAL_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .codec import Event
    from .items import Item


class ResponseState:
    """The state of a response after a number of its events.

    `output` contains only the items since the last restart. `items` are the same items by their
    output indexes, and `open_indexes` the indexes of those that have not ended. `next_index` is the
    lowest output index that no attempt has used. The next attempt must begin with this index,
    because the accumulators of the official SDKs reject an index that is used twice. `call_ids` are
    the call ids of all attempts, which another attempt must not use for the same reason. `void`
    maps the id of each item before the last restart to the item's call id, or to None. `continued`
    lists the length of the text, in code points, at which each later attempt continued it. `last`
    is the last response object, or None before the first one. `end` is the terminal event, or None
    before the end.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.items: dict[int, Item] = {}
        self.open_indexes: set[int] = set()
        self.next_index = 0
        self.call_ids: set[str] = set()
        self.void: dict[str, str | None] = {}
        self.continued: list[int] = []
        self.end: Event | None = None
        self.last: dict[str, Any] | None = None
        for event in events:
            self.apply(event)

    @property
    def output(self) -> list[Item]:
        """The output items of the last attempt, in the order of their indexes."""
        return [self.items[index] for index in sorted(self.items)]

    def apply(self, event: Event) -> None:
        """Updates the state with the next event of the log."""
        match event["type"]:
            case "response.output_item.added" | "response.output_item.done" as kind:
                index = event["output_index"]
                self.items[index] = deepcopy(event["item"])
                self.next_index = max(self.next_index, index + 1)
                if isinstance(call_id := event["item"].get("call_id"), str):
                    self.call_ids.add(call_id)
                if kind.endswith("added"):
                    self.open_indexes.add(index)
                else:
                    self.open_indexes.discard(index)
            case kind if kind == CONTINUED:
                self.continued.append(event["at"])
            case _ if "output_index" in event:
                item_events.apply(self.items[event["output_index"]], event)
            case kind if kind == RESTARTED:
                for item in self.items.values():
                    self.void[item["id"]] = item.get("call_id")
                self.items.clear()
                self.open_indexes.clear()
                self.continued.clear()
            case kind if "response" in event:
                self.last = event["response"]
                if kind in TERMINAL_TYPES:
                    self.end = event
            case _:
                pass

    def close(self) -> list[Event]:
        """Closes all open items as incomplete, and returns the events that do so.

        Append these events before a restart or an end. Otherwise the accumulators of the official
        SDKs would reject the whole response, because an item was added and never done.
        """
        events: list[Event] = []
        for index in sorted(self.open_indexes):
            events += item_events.done(index, item_events.incomplete(deepcopy(self.items[index])))
        for event in events:
            self.apply(event)
        return events
