"""Keeps the record of this worker in the registry of live workers."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from jobs.kept_record import KeptRecord
from jobs.worker_registry import (
    MAX_MODELS,
    MAX_RUNNING,
    WorkerRecord,
    WorkerRegistry,
)
from runtime.version import program_version

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from jobs.worker_registry import WorkerState

    from .context import WorkerContext
    from .execute import Execution


class Registration(KeptRecord):
    """The record of a worker. Use it as an async context manager.

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
        self._recent = context.metrics.recent
        self._fleet = context.fleet
        self._registry = WorkerRegistry(context.pipe, config.shared.lease_ms)
        super().__init__("worker record", self._registry.record_ms)

    async def _remove(self) -> None:
        await self._registry.unregister(self._worker)

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
