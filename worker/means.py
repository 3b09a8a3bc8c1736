"""What every job of a worker works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from jobs.pipe import Pipe
    from jobs.queue import Queue

    from .config import Config
    from .models import Models
    from .outcome import Policy
    from .sealer import Sealer


@dataclass(frozen=True, slots=True)
class Means:
    """The parts that all jobs of a process share."""

    config: Config
    pipe: Pipe
    queue: Queue
    models: Models
    policy: Policy
    sealer: Sealer
    patience: float = PATIENCE_SECONDS
