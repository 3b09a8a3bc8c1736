"""The parts that the jobs of a worker share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobs.queue import Queue
    from jobs.redis.pipe import Pipe

    from .compactor import Compactor
    from .config import Config
    from .outcome import Policy
    from .upstream.router import Router


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """The parts that all jobs of one process share."""

    config: Config
    pipe: Pipe
    queue: Queue
    router: Router
    policy: Policy
    compactor: Compactor
