"""Keeps the record of this server in the registry of live servers, which the console shows."""

from __future__ import annotations

import os
import secrets
import time
from collections import deque
from typing import TYPE_CHECKING

from jobs.kept_record import KeptRecord
from jobs.recent_attempts import RECENT_SECONDS
from jobs.server_registry import RECORD_MS, ServerRecord, ServerRegistry, ServerState
from runtime.version import program_version

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobs.redis.pipe import Pipe
    from runtime.metrics import Family, Value


class RecentRefusals:
    """The refused requests of the last `RECENT_SECONDS`, from the values of a counter by code."""

    def __init__(self, refused: Family[Value]) -> None:
        self._refused = refused
        self._earlier: deque[tuple[float, dict[str, float]]] = deque()

    def counts(self, now: float) -> dict[str, int]:
        """Returns the numbers by code. `now` is in seconds of a monotonic clock.

        The result is exact if the method is called at regular intervals.
        """
        total = {code: value.count for (code,), value in self._refused.children.items()}
        self._earlier.append((now, total))
        while len(self._earlier) > 1 and self._earlier[1][0] <= now - RECENT_SECONDS:
            self._earlier.popleft()
        began, before = self._earlier[0]
        if began > now - RECENT_SECONDS:
            before = {}  # the process is younger
        found = {code: round(count - before.get(code, 0)) for code, count in total.items()}
        return {code: count for code, count in found.items() if count}


class Registration(KeptRecord):
    """The record of a server. Use it as an async context manager.

    `load` returns the state of the server, and the numbers of its WebSockets and event streams.
    """

    def __init__(
        self, pipe: Pipe, refused: Family[Value], load: Callable[[], tuple[ServerState, int, int]]
    ) -> None:
        super().__init__("server record", RECORD_MS)
        self._id = secrets.token_hex(8)
        self._registry = ServerRegistry(pipe)
        self._refusals = RecentRefusals(refused)
        self._load = load

    async def _remove(self) -> None:
        await self._registry.unregister(self._id)

    async def _write(self) -> None:
        now = time.monotonic()
        state, sockets, streams = self._load()
        record = ServerRecord(
            host=self._host,
            pid=os.getpid(),
            version=program_version(),
            age_ms=round(1000 * (now - self._started)),
            state=state,
            sockets=sockets,
            streams=streams,
            refused=self._refusals.counts(now),
        )
        await self._registry.register(self._id, record)
