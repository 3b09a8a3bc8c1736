"""Compacts the logs of finished responses shortly after they end, several at a time.

Compaction starts after the last event of a response has been sent, so no client waits for it. Logs
that end within about a tenth of a second are compacted together. Otherwise the tokens of running
responses could queue behind many single compactions.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Final, Self, TypeVar

import structlog

from jobs.errors import RedisTrouble
from runtime.logs import described
from runtime.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from jobs.log.log import LogWriter
    from jobs.scripts import Call

    Head = Callable[[], list[bytes]]

# The pause is random, so that the loop does not synchronize with responses that end at regular
# intervals.
PAUSE_SECONDS: Final = (0.05, 0.15)
MAX_WAITING_BYTES: Final = 4_000_000
STOP_SECONDS: Final = 1.0

log = structlog.get_logger()
T = TypeVar("T")


class Compactor:
    """Compacts logs for one worker process. Use it as an async context manager.

    On exit it compacts the logs that still wait, but stops after `STOP_SECONDS`.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[LogWriter, Head, list[bytes]]] = []
        self._waiting_bytes = 0
        self._loop = Loop(
            "compactor", self._compact_waiting, PAUSE_SECONDS, first_pause=PAUSE_SECONDS
        )

    async def __aenter__(self) -> Self:
        self._loop.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._loop.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._compact_waiting()

    async def compact(self, writer: LogWriter, head: Head, rest: list[bytes]) -> None:
        """Schedules the compaction of a finished log.

        The log consists of the entries that `head` returns, followed by the entries in `rest`. The
        compactor calls `head` only when it compacts the log.

        This method usually returns at once. If the logs that wait would exceed `MAX_WAITING_BYTES`,
        the method compacts this log before it returns, which limits the memory in use.
        """
        size = sum(map(len, rest))
        if self._waiting_bytes + size > MAX_WAITING_BYTES:
            await _attempted(lambda: writer.compact(head(), rest))
            return
        self._waiting.append((writer, head, rest))
        self._waiting_bytes += size

    async def _compact_waiting(self) -> None:
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        ready: list[tuple[LogWriter, Call]] = []
        for writer, head, rest in waiting:
            if compacted := await _attempted(partial(_compacted, writer, head, rest)):
                ready.append((writer, compacted))
            # Running responses can proceed between two compactions.
            await asyncio.sleep(0)
        await asyncio.gather(
            *(_attempted(partial(writer.store_compacted, compacted)) for writer, compacted in ready)
        )


async def _compacted(writer: LogWriter, head: Head, rest: list[bytes]) -> Call:
    return await writer.compacted(head(), rest)


async def _attempted(step: Callable[[], Awaitable[T]]) -> T | None:
    """Calls `step` and returns its result, or None if it failed.

    `step` is a function and not a coroutine, because a shutdown may cancel this call before it
    starts. A coroutine would then never be awaited.

    After a failure, the log stays uncompacted and only uses more memory in Redis.
    """
    try:
        return await step()
    except RedisTrouble:
        return None
    except Exception as error:  # noqa: BLE001 - other logs must still be compacted
        log.error("unhandled error in log compaction: log left uncompacted", error=described(error))
        return None
