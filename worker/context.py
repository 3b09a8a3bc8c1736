"""Defines the context of a worker process, which all of its jobs share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from jobs.redis.retry import retry

from .fleet_share import FleetSize
from .metrics import WorkerMetrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from jobs.queue import Queue
    from jobs.redis.pipe import Pipe

    from .append_interval import AppendInterval
    from .compactor import Compactor
    from .config import Config
    from .outcome import Policy
    from .upstream.router import Router

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """The objects that all jobs of one worker process share."""

    config: Config
    pipe: Pipe
    queue: Queue
    router: Router
    policy: Policy
    compactor: Compactor
    interval: AppendInterval
    metrics: WorkerMetrics = field(default_factory=WorkerMetrics)
    fleet: FleetSize = field(default_factory=FleetSize)

    async def retry(self, action: Callable[[], Awaitable[T]]) -> T:
        """Repeats `action` while Redis is unavailable, for up to `redis_retry_seconds`.

        Raises: the errors of `jobs.redis.retry.retry`.
        """
        return await retry(action, seconds=self.config.redis_retry_seconds)
