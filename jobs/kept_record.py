"""Keeps the record of a process in a registry of live processes for as long as the process runs.

The record expires in Redis, so it also disappears if the process is killed. A process that stops
removes its record itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from abc import ABC, abstractmethod
from typing import Final, Self

from runtime.loop import Loop

from .errors import RedisTrouble
from .worker_registry import MAX_TEXT

WRITES_PER_RECORD: Final = 3
# Each pause is shorter than the period by up to this share.
JITTER: Final = 0.2
# A process that stops waits this long for Redis. If Redis is unavailable, the record expires.
REMOVE_SECONDS: Final = 1.0


class KeptRecord(ABC):
    """Writes the record of this process again and again. Use it as an async context manager.

    `record_ms` is the time after which a record expires.
    """

    def __init__(self, name: str, record_ms: int) -> None:
        self._host = socket.gethostname()[:MAX_TEXT]
        self._started = time.monotonic()
        period = record_ms / 1000 / WRITES_PER_RECORD
        pause = (period * (1 - JITTER), period)
        self._loop = Loop(name, self._write, pause, ignored=(RedisTrouble,))

    async def __aenter__(self) -> Self:
        self._loop.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._loop.stop()
        with contextlib.suppress(RedisTrouble, TimeoutError):
            async with asyncio.timeout(REMOVE_SECONDS):
                await self._remove()

    def write_now(self) -> None:
        """Writes the record at once, because the state of the process has changed."""
        self._loop.wake()

    @abstractmethod
    async def _write(self) -> None:
        """Writes the record. Raises: RedisTrouble."""

    @abstractmethod
    async def _remove(self) -> None:
        """Removes the record. Raises: RedisTrouble."""
