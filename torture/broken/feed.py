"""Sends the events of a response's log to any number of followers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Final

from torture.broken.events import DELTA, TERMINAL
from torture.broken.faults import Fault
from torture.broken.store import RACE_SECONDS, Store

POLL_SECONDS: Final = 0.02
MAX_QUEUED_EVENTS: Final = 256

Event = tuple[int, str]
# None means that the log has been deleted.
Queue = asyncio.Queue[Event | None]


def is_terminal(data: str) -> bool:
    """Returns True if an event, as JSON, is the last one of its response."""
    return json.loads(data)["type"] in TERMINAL


class Feeds:
    """Reads each followed log once, for all of its followers on this server."""

    def __init__(self, store: Store, fault: Fault | None) -> None:
        self._store = store
        self._fault = fault
        self._queues: dict[str, set[Queue]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def close(self) -> None:
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def follow(self, response_id: str, cursor: int) -> AsyncIterator[Event]:
        """Yields the events after the cursor, up to the terminal event or until the log is deleted.

        Subscribes before it reads the log, so that no event is in neither. A queue that was full
        has lost its oldest events; their numbers are missing, so the log is read again.
        """
        early: list[Event] = []
        if self._fault is Fault.READ_THEN_SUBSCRIBE:
            early = self._store.events(response_id, cursor)
            await asyncio.sleep(RACE_SECONDS)
        with self._subscription(response_id) as queue:
            ended = self._store.has_ended(response_id)
            events = early or self._store.events(response_id, cursor)
            if ended and not events:
                return
            while True:
                for number, data in events:
                    yield number, data
                    cursor = number
                    if is_terminal(data):
                        return
                event = await queue.get()
                if event is None:
                    return
                events = self._next_events(response_id, event, cursor)

    def _next_events(self, response_id: str, event: Event, cursor: int) -> list[Event]:
        if self._fault in (Fault.READ_THEN_SUBSCRIBE, Fault.SLOW_READER_DROPS, Fault.REORDERED):
            return [event]
        if event[0] == cursor + 1:
            return [event]
        return self._store.events(response_id, cursor) if event[0] > cursor else []

    @contextlib.contextmanager
    def _subscription(self, response_id: str) -> Iterator[Queue]:
        queue = Queue(MAX_QUEUED_EVENTS)
        queues = self._queues.setdefault(response_id, set())
        queues.add(queue)
        if response_id not in self._tasks:
            last = self._store.last_number(response_id)
            self._tasks[response_id] = asyncio.create_task(self._poll(response_id, last))
        try:
            yield queue
        finally:
            queues.discard(queue)
            if not queues:
                self._queues.pop(response_id, None)
                if task := self._tasks.pop(response_id, None):
                    task.cancel()

    async def _poll(self, response_id: str, last: int) -> None:
        while True:
            events = self._store.events(response_id, last)
            if events:
                last = events[-1][0]
            deleted = not events and self._store.last_number(response_id) < last
            if self._fault is Fault.REORDERED:
                events = _swap_deltas(events)
            for queue in self._queues.get(response_id, ()):
                for event in [None] if deleted else events:
                    if queue.full():
                        queue.get_nowait()
                    queue.put_nowait(event)
            await asyncio.sleep(POLL_SECONDS)


def _swap_deltas(events: list[Event]) -> list[Event]:
    """Swaps the first two deltas that follow each other."""
    deltas = [DELTA in data for _, data in events]
    for index in range(len(events) - 1):
        if deltas[index] and deltas[index + 1]:
            first, second = events[index : index + 2]
            return [*events[:index], second, first, *events[index + 2 :]]
    return events
