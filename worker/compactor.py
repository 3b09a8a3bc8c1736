"""Seals the logs of answers that have ended: soon, several at once, and in nobody's way.

An answer's last event has gone out by then, and nobody waits for its seal. So those of a tenth of a
second travel as one write, and no token of an answer that is under way waits behind their packing.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Final, Self, TypeVar

import structlog

from jobs.errors import RedisTrouble
from runtime.logs import described
from runtime.loop import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from jobs.log.log import LogWriter

    Head = Callable[[], list[bytes]]

# Not in step with what comes at a steady pace.
SECONDS: Final = (0.05, 0.15)
MOST_BYTES: Final = 4_000_000
STOP_SECONDS: Final = 1.0

log = structlog.get_logger()
T = TypeVar("T")


class Compactor:
    """Of one process; use it as an async context manager. What waits at the end is sealed then."""

    def __init__(self) -> None:
        self._waiting: list[tuple[LogWriter, Head, list[bytes]]] = []
        self._size = 0
        self._news = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._owner = asyncio.create_task(self._seal_for_ever(), name="sealer")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._owner is not None:
            await cancel_and_wait(self._owner)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._seal_waiting()

    async def seal(self, writer: LogWriter, head: Head, rest: list[bytes]) -> None:
        """Seals a log of which these are all entries, see `LogWriter.compacted`; `head` makes those
        that were there before. Mostly it returns at once; where much waits already, the caller
        waits for its own.
        """
        size = sum(map(len, rest))
        if self._size + size > MOST_BYTES:
            await _tried(writer.compact(head(), rest))
            return
        self._waiting.append((writer, head, rest))
        self._size += size
        self._news.set()

    async def _seal_for_ever(self) -> None:
        while True:
            await self._news.wait()
            await asyncio.sleep(random.uniform(*SECONDS))  # noqa: S311 - jitter
            await self._seal_waiting()

    async def _seal_waiting(self) -> None:
        waiting, self._waiting, self._size = self._waiting, [], 0
        self._news.clear()
        seals: list[Awaitable[None]] = []
        for writer, head, rest in waiting:
            if sealed := await _tried(writer.compacted(head(), rest)):
                seals.append(_tried(writer.store_compacted(sealed)))
            await asyncio.sleep(0)  # whatever else there is to do comes first
        await asyncio.gather(*seals)


async def _tried(step: Awaitable[T]) -> T | None:
    """What it gives. Where it fails, a log takes more room, and nothing else has happened."""
    try:
        return await step
    except RedisTrouble:
        return None
    except Exception as error:  # noqa: BLE001 - the edge: the next one may fare better
        log.error("not sealed", error=described(error))
        return None
