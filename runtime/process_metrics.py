"""The metrics that every server and worker process has: its resources and its event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Self

from prometheus_client.process_collector import ProcessCollector

from .metrics import Metric

if TYPE_CHECKING:
    from .metrics import Registry

LAG_SECONDS: Final = 0.25

PROCESSES: Final = Metric(
    "holdline_processes",
    "gauge",
    "processes that answer for this address: 1, or the number of `--processes`",
    "fewer than were started",
)
READY: Final = Metric(
    "holdline_ready_processes",
    "gauge",
    "processes whose `/readyz` would answer 200, as of the last few seconds",
    "the value is below `holdline_processes`",
)
DRAINING: Final = Metric(
    "holdline_draining_processes",
    "gauge",
    "processes that are shutting down",
    "the value stays above 0 for longer than the grace period",
)
TASKS: Final = Metric(
    "holdline_tasks",
    "gauge",
    "tasks of the event loop; each connection and each job has several tasks",
    "the value grows although there is no work",
)
LAG: Final = Metric(
    "holdline_event_loop_lag_seconds",
    "histogram",
    "delay of a timer of the event loop, measured four times a second",
    "the 99th percentile is above 0.25: the process needs more CPU time than it gets",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
_RESOURCES: Final = (
    Metric("process_cpu_seconds_total", "counter", "CPU time of the process"),
    Metric(
        "process_resident_memory_bytes", "gauge", "resident memory", "the value grows without end"
    ),
    Metric(
        "process_open_fds",
        "gauge",
        "open file descriptors; each connection needs one",
        "the value comes near `process_max_fds`",
    ),
    Metric("process_max_fds", "gauge", "limit of open file descriptors"),
    Metric(
        "process_start_time_seconds",
        "gauge",
        "start of the process in Unix time; the earliest start of several processes",
        "the value changes without a deployment",
        merge="min",
    ),
)
ALL: Final = (PROCESSES, READY, DRAINING, TASKS, LAG, *_RESOURCES)


class ProcessMetrics:
    """Measures the process and its event loop. Use it as an async context manager.

    The owner sets `ready` and `draining`.
    """

    def __init__(self, registry: Registry) -> None:
        registry.value(PROCESSES).set(1)
        self.ready = registry.value(READY)
        self.draining = registry.value(DRAINING)
        self._tasks = registry.value(TASKS)
        self._lag = registry.distribution(LAG)
        self._resources = {one.name: registry.value(one) for one in _RESOURCES}
        self._collector = ProcessCollector(registry=None)
        self._timer: asyncio.TimerHandle | None = None
        registry.before_reading(self._update)

    async def __aenter__(self) -> Self:
        self._schedule(asyncio.get_running_loop())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + LAG_SECONDS
        self._timer = loop.call_at(due, self._measure, loop, due)

    def _measure(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._lag.observe(max(loop.time() - due, 0.0))
        self._schedule(loop)

    def _update(self) -> None:
        try:
            self._tasks.set(len(asyncio.all_tasks()))
        except RuntimeError:  # no event loop is running
            self._tasks.set(0)
        for family in self._collector.collect():
            for sample in family.samples:
                if (value := self._resources.get(sample.name)) is not None:
                    value.set(sample.value)
