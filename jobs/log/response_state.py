"""Folds the events of a log into the state of its response.

Server, worker and rescue all use it, so that every process reports the same state.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from . import items
from .events import RESTARTED, TERMINAL_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .codec import Event
    from .items import Item


class ResponseState:
    """The output of a response after some of its events.

    `output` has only the items of the last attempt. `next_index` is the first output index that no
    attempt has used: the accumulators of the official SDKs reject an index that is used twice.
    `last` is the last response object, and `end` the terminal event; both are None before.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._items: dict[int, Item] = {}
        self._open: set[int] = set()
        self.next_index = 0
        self.end: Event | None = None
        self.last: dict[str, Any] | None = None
        for event in events:
            self.apply(event)

    @property
    def output(self) -> list[Item]:
        """The items of the last attempt, in the order of their indexes."""
        return [self._items[index] for index in sorted(self._items)]

    def apply(self, event: Event) -> None:
        """Applies the next event of the log."""
        match event["type"]:
            case "response.output_item.added" | "response.output_item.done" as kind:
                index = event["output_index"]
                self._items[index] = deepcopy(event["item"])
                self.next_index = max(self.next_index, index + 1)
                (self._open.add if kind.endswith("added") else self._open.discard)(index)
            case _ if "output_index" in event:
                items.apply(self._items[event["output_index"]], event)
            case kind if kind == RESTARTED:
                self._items.clear()
                self._open.clear()
            case kind if "response" in event:
                self.last = event["response"]
                if kind in TERMINAL_TYPES:
                    self.end = event
            case _:
                pass

    def close(self) -> list[Event]:
        """Applies and returns the events that close the open items as incomplete.

        Append them before a restart or an end: the accumulators of the official SDKs reject a whole
        response if one of its items is added and never done.
        """
        events: list[Event] = []
        for index in sorted(self._open):
            events += items.done(index, deepcopy(self._items[index]) | {"status": "incomplete"})
        for event in events:
            self.apply(event)
        return events
