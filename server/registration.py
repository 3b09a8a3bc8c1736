"""Keeps the record of this server in the registry of live servers, which the console shows.

The record expires in Redis, so it also disappears if the process is killed. A server that stops
removes its record itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Self

from jobs.errors import RedisTrouble
from jobs.recent_attempts import RECENT_SECONDS
from jobs.server_registry import RECORD_MS, ServerRecord, ServerRegistry, ServerState
from jobs.worker_registry import MAX_TEXT
from runtime.loop import Loop
from runtime.version import program_version

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobs.redis.pipe import Pipe
    from runtime.metrics import Family, Value

# A record is written three times before it expires.
PAUSE_SECONDS: Final = (0.8 * RECORD_MS / 3000, RECORD_MS / 3000)
# A server that stops waits this long for Redis. If Redis is unavailable, the record expires.
REMOVE_SECONDS: Final = 1.0


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


class Registration:
    """Writes the record of a server again and again. Use it as an async context manager.

    `load` returns the state of the server, and the numbers of its WebSockets and event streams.
    """

    def __init__(
        self, pipe: Pipe, refused: Family[Value], load: Callable[[], tuple[ServerState, int, int]]
    ) -> None:
        self._id = secrets.token_hex(8)
        self._registry = ServerRegistry(pipe)
        self._refusals = RecentRefusals(refused)
        self._load = load
        self._host = socket.gethostname()[:MAX_TEXT]
        self._started = time.monotonic()
        self._loop = Loop("server record", self._write, PAUSE_SECONDS, ignored=(RedisTrouble,))

    async def __aenter__(self) -> Self:
        self._loop.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._loop.stop()
        with contextlib.suppress(RedisTrouble, TimeoutError):
            async with asyncio.timeout(REMOVE_SECONDS):
                await self._registry.unregister(self._id)

    def write_now(self) -> None:
        """Writes the record at once, because the state of the server has changed."""
        self._loop.wake()

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
