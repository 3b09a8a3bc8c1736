"""The state of a worker process, as operators and orchestrators see it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final, Self

from jobs.errors import RedisTrouble
from jobs.worker_registry import WorkerState
from runtime.metrics_files import MetricsPage

if TYPE_CHECKING:
    from pathlib import Path

    from jobs.redis.pipe import Pipe

    from .metrics import WorkerMetrics
    from .upstream.router import Router
    from .worker import Worker

READY_SECONDS: Final = 1.0


class WorkerStatus:
    """Reports whether the worker is ready, and its metrics. Use it as an async context manager.

    `worker` is None until Redis has been available for the first time. `metrics_file` is the file
    through which this process shares its metrics with the other processes of its program, or None
    if there are none.
    """

    def __init__(
        self, metrics: WorkerMetrics, pipe: Pipe, router: Router, metrics_file: Path | None
    ) -> None:
        self.worker: Worker | None = None
        self._metrics = metrics
        self._pipe = pipe
        self._router = router
        self._page = MetricsPage(metrics.registry, metrics_file)
        self._stack = contextlib.AsyncExitStack()
        metrics.registry.before_reading(self._update)

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._metrics.process)
        await self._stack.enter_async_context(self._page)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def ready(self) -> tuple[bool, dict[str, Any]]:
        """Returns True if the worker claims jobs, or would if it had room, and the conditions."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                redis = await self._pipe.call("PING") is not None
        except (RedisTrouble, TimeoutError):
            redis = False
        state, reason = self._state
        ready = redis and state is WorkerState.READY
        return ready, {"redis": redis, "state": str(state), "reason": reason}

    def metrics_page(self) -> bytes:
        """Returns the metrics of all processes of the program in the text format of Prometheus."""
        return self._page.render()

    def _update(self) -> None:
        metrics, worker = self._metrics, self.worker
        connected = self._pipe.connected
        metrics.redis_connected.set(connected)
        self._router.update_metrics()
        if worker is not None:
            jobs, size = worker.load
            metrics.running.set(jobs)
            metrics.held_bytes.set(size)
            metrics.concurrency.set(worker.concurrency)
        state, _ = self._state
        metrics.process.ready.set(connected and state is WorkerState.READY)
        metrics.process.draining.set(state is WorkerState.DRAINING)

    @property
    def _state(self) -> tuple[WorkerState, str]:
        # Before the start of its loops, the worker waits until Redis is available.
        return (WorkerState.PAUSED, "starting") if self.worker is None else self.worker.state()
