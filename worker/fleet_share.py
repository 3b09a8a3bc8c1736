"""Divides regular checks of all partitions among the workers.

A check such as a rescue needs only one worker in each partition. If every worker checked every
partition, n workers would send n times as many commands as one.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass


@dataclass(slots=True)
class FleetSize:
    """The number of live workers that the registry of workers reported last.

    The number still includes workers that have died lately, until their records expire.
    """

    workers: int = 1


class FleetShare:
    """Chooses the partitions that this worker checks in each interval.

    Together, all workers check each partition about `times` times in an interval, or more often if
    there are more workers than that, because each worker checks at least one partition. A worker
    checks at most `most` partitions in an interval, takes the partitions in turn, and begins at a
    random one.
    """

    def __init__(
        self, partitions: range, fleet: FleetSize, times: int, most: int | None = None
    ) -> None:
        self._partitions = partitions
        self._fleet = fleet
        self._times = times
        self._most = len(partitions) if most is None else min(most, len(partitions))
        self._next = random.randrange(len(partitions))  # noqa: S311 - need not be secure

    def next(self) -> list[int]:
        """Returns the partitions to check in the next interval."""
        count = len(self._partitions)
        taken = min(math.ceil(count * self._times / self._fleet.workers), self._most)
        first, self._next = self._next, (self._next + taken) % count
        return [self._partitions[turn % count] for turn in range(first, first + taken)]
