"""Keeps the record of this worker in the registry of live workers.

The record expires in Redis, so it also disappears if the process is killed. A worker that stops
removes its record itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING, Final, Self

from jobs.errors import RedisTrouble
from jobs.worker_registry import (
    MAX_MODELS,
    MAX_RUNNING,
    MAX_TEXT,
    WorkerRecord,
    WorkerRegistry,
)
from runtime.loop import Loop
from runtime.version import program_version

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from jobs.worker_registry import WorkerState

    from .context import WorkerContext
    from .execute import Execution

WRITES_PER_RECORD: Final = 3
# Each pause is shorter than the period by up to this share.
JITTER: Final = 0.2
# A worker that stops waits this long for Redis. If Redis is unavailable, the record expires.
REMOVE_SECONDS: Final = 1.0


class Registration:
    """Writes the record of a worker again and again. Use it as an async context manager.

    Each write also updates `fleet` of the context, the number of live workers.
    `state` returns the state of the worker and the reason of a pause, and `held` are its jobs.
    """

    def __init__(
        self,
        context: WorkerContext,
        worker: str,
        state: Callable[[], tuple[WorkerState, str]],
        held: Collection[Execution],
    ) -> None:
        config = context.config
        self._worker = worker
        self._state = state
        self._held = held
        self._concurrency = config.concurrency
        self._models = tuple(config.endpoints)[:MAX_MODELS]
        self._host = socket.gethostname()[:MAX_TEXT]
        self._started = time.monotonic()
        self._recent = context.metrics.recent
        self._fleet = context.fleet
        self._registry = WorkerRegistry(context.pipe, config.shared.lease_ms)
        period = self._registry.record_ms / 1000 / WRITES_PER_RECORD
        pause = (period * (1 - JITTER), period)
        self._loop = Loop("worker record", self._write, pause, ignored=(RedisTrouble,))

    async def __aenter__(self) -> Self:
        self._loop.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._loop.stop()
        with contextlib.suppress(RedisTrouble, TimeoutError):
            async with asyncio.timeout(REMOVE_SECONDS):
                await self._registry.unregister(self._worker)

    def write_now(self) -> None:
        """Writes the record at once, because the state of the worker has changed."""
        self._loop.wake()

    async def _write(self) -> None:
        now = time.monotonic()
        state, reason = self._state()
        record = WorkerRecord(
            host=self._host,
            pid=os.getpid(),
            version=program_version(),
            age_ms=round(1000 * (now - self._started)),
            concurrency=self._concurrency,
            models=self._models,
            state=state,
            reason=reason,
            jobs=len(self._held),
            running=tuple(one.record(now) for one in list(self._held)[:MAX_RUNNING]),
            recent=self._recent.counts(now),
        )
        self._fleet.workers = await self._registry.register(self._worker, record)
