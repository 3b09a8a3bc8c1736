"""Renews the leases of a worker's jobs, and rescues the jobs of lost workers.

A renewal is late if the process was suspended, the machine is overloaded or Redis was unavailable.
The worker's leases may have expired in the meantime, so it claims fewer jobs until its renewals are
on time again. Otherwise several slow workers could take jobs from each other forever without
finishing any of them.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, Self

import structlog

from jobs.errors import RedisTrouble
from jobs.lease_store import RescuePace
from jobs.redis.connection import RECONNECT_SECONDS
from runtime.loop import Loop

from .execute import Execution
from .fleet_share import FleetShare
from .stop import Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterable

    from .context import WorkerContext
    from .rescue import Rescue

log = structlog.get_logger()

MIN_RENEWAL_SECONDS: Final = 0.05
# The number of partitions that are rescued at once. A rescue returns up to `RESCUE_LIMIT` jobs that
# the worker has to end, so this number limits the jobs that it receives together.
RESCUED_AT_ONCE: Final = 16
RENEWALS_PER_LEASE: Final = 3
# In the time between two renewals, all workers together try to rescue each partition this often. So
# chance, by which workers choose partitions, makes no gap between two tries too long.
TRIES_PER_RENEWAL: Final = 8
# The longest time between two tries while Redis is available, in times between two renewals. A
# single worker tries once in this time, or after one and a half if `renew_now` was called.
MAX_GAP: Final = 1.75
# A renewal is late if more than this fraction of a lease has passed since the previous renewal. Two
# renewals are due within that time.
LATE: Final = 0.75
UNLIMITED: Final = 1_000_000
FAILURE_PAUSE_SECONDS: Final = (0.2, 1.0)


class RedisHealth:
    """Logs the beginning and the end of a period in which Redis requests fail."""

    def __init__(self) -> None:
        self.error: RedisTrouble | None = None
        """The first error of the current period, or None if the previous request succeeded."""

    def failed(self, error: RedisTrouble) -> None:
        """Logs a failed request to Redis, unless the previous request failed too."""
        if self.error is None:
            self.error = error.with_traceback(None)
            log.warning(
                "Redis is failing: retrying until it recovers",
                error=type(error).__name__,
                reason=str(error),
            )

    def succeeded(self) -> None:
        """Logs the recovery of Redis, if the previous request failed."""
        if self.error is not None:
            self.error = None
            log.info("Redis recovered")


class Pace:
    """Limits the number of jobs claimed between two renewals.

    After a late renewal the limit is one job. The limit doubles after each renewal that is on time.
    """

    def __init__(self) -> None:
        self._limit = UNLIMITED
        self._claimed = 0
        self._raised = asyncio.Event()

    @property
    def left(self) -> int:
        """The number of further jobs that the worker may claim before the next renewal."""
        return self._limit - self._claimed

    @property
    def is_reduced(self) -> bool:
        """True from a late renewal until 20 renewals in a row have been on time."""
        return self._limit < UNLIMITED

    def claimed(self, jobs: int) -> None:
        """Counts newly claimed jobs towards the limit."""
        self._claimed += jobs

    async def wait(self) -> None:
        """Waits until a lease renewal is on time, which raises the limit."""
        await self._raised.wait()

    def renewed(self, *, late: bool) -> None:
        """Records a lease renewal, and sets the limit that applies until the next renewal."""
        self._claimed = 0
        if late:
            self._limit = 1
        else:
            self._limit = min(self._limit * 2, UNLIMITED)
            self._raised.set()
            self._raised.clear()


class Leases:
    """Renews the leases of the jobs in `held`. Use it as an async context manager.

    While `rescuing` returns True, it also takes over jobs of other workers whose leases have
    expired.
    """

    def __init__(
        self,
        context: WorkerContext,
        rescue: Rescue,
        held: Collection[Execution],
        health: RedisHealth,
        rescuing: Callable[[], bool],
    ) -> None:
        self._context = context
        self._rescue = rescue
        self._held = held
        self._health = health
        self._rescuing = rescuing
        self._lease = context.config.shared.lease_ms / 1000
        self._period = max(self._lease / RENEWALS_PER_LEASE, MIN_RENEWAL_SECONDS)
        partitions = context.config.shared.partitions
        self._share = FleetShare(partitions, context.fleet, TRIES_PER_RENEWAL)
        # In this time, each live worker renews its leases, even if its last renewal has failed.
        grace = self._period + min(self._period, FAILURE_PAUSE_SECONDS[1]) + RECONNECT_SECONDS[1]
        self._rescue_pace = RescuePace(
            every_ms=round(1000 * self._period / 2),
            max_gap_ms=round(1000 * self._period * MAX_GAP),
            grace_ms=round(1000 * grace),
        )
        pause = (self._period, self._period)
        self._loop = Loop("leases", self._tick, pause, first_pause=pause)
        self._renewed_at = self._rescue_at = 0.0
        self._held_up = self._failed = False
        self.pace = Pace()

    async def __aenter__(self) -> Self:
        self._renewed_at = asyncio.get_running_loop().time()
        self._loop.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._loop.stop()

    def renew_now(self) -> None:
        """Renews the leases at once. Redis replies with the jobs that were cancelled or lost."""
        self._loop.wake()

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        rescued = self._next_rescued() if now >= self._rescue_at and self._rescuing() else []
        try:
            renewed = await self._renew(rescued)
            gap, self._renewed_at = loop.time() - self._renewed_at, now
            self._adapt(gap)
            # The worker renews its own leases before it rescues. After a pause of the process or of
            # Redis these leases have expired, and a rescue would take the jobs from a live worker.
            if rescued and now >= self._rescue_at:
                for first in range(0, len(rescued), RESCUED_AT_ONCE):
                    await self._rescue_all(rescued[first : first + RESCUED_AT_ONCE])
                # Extra renewals by `renew_now` must not make rescues more frequent.
                self._rescue_at = now + self._period / 2
            if renewed:
                self._health.succeeded()
        except RedisTrouble as error:
            self._health.failed(error)
            self._held_up, self._failed = False, True
            pause = random.uniform(*FAILURE_PAUSE_SECONDS)  # noqa: S311 - jitter need not be secure
            await asyncio.sleep(min(self._period, pause))
            self._loop.wake()

    def _adapt(self, gap: float) -> None:
        """Adjusts the limit on claims and the time of the next rescue after a lease renewal.

        `gap` is the time in seconds since the previous renewal.
        """
        late = gap > self._lease * LATE
        self.pace.renewed(late=late)
        if late:
            self._context.metrics.late_renewals.inc()
            log.warning(
                "leases renewed late: claiming fewer jobs",
                seconds=round(gap, 3),
                jobs=len(self._held),
            )
        # If Redis was unavailable or refused requests, the leases of other workers may have expired
        # too, because their last renewal was up to one period before this worker's. The rescue is
        # postponed so that the other workers can renew first. It is postponed only once, because a
        # worker that is always late must still rescue.
        held_up = gap > self._lease - self._period
        now = asyncio.get_running_loop().time()
        if held_up and not self._held_up:
            self._rescue_at = now + self._lease + RECONNECT_SECONDS[1]
        elif self._failed:
            wait = FAILURE_PAUSE_SECONDS[1] + RECONNECT_SECONDS[1]
            self._rescue_at = max(self._rescue_at, now + wait)
        self._held_up, self._failed = held_up, False

    def _next_rescued(self) -> list[int]:
        """Returns the partitions to rescue next.

        A partition without a connection would delay the others. If none has one, the first request
        waits for it.
        """
        share = self._share.next()
        leases = self._context.queue.leases
        return [number for number in share if leases.is_reachable(number)] or share

    async def _renew(self, rescued: Iterable[int]) -> bool:
        """Renews the leases of all jobs. Returns False if there was nothing to send."""
        # In the partitions to rescue, idle workers send renewals too. After an outage, a renewal
        # must reach Redis before the first rescue does. Otherwise the rescue would take jobs from
        # live workers. The script of the rescue has the same rule, because other workers may have
        # failed to reach the partition, while this worker did not try.
        held: dict[int, list[Execution]] = {number: [] for number in rescued}
        held |= self._held_by_partition()
        await _all(self._extend(number, some) for number, some in held.items())
        return bool(held)

    async def _rescue_all(self, partitions: Iterable[int]) -> None:
        # The process may have been suspended since the renewal, so it renews the leases again. The
        # scripts of a partition are sent in one write, so nothing can delay only the rescue, which
        # would then take this worker's own jobs.
        held = self._held_by_partition()
        scripts: list[Coroutine[Any, Any, None]] = []
        for number in partitions:
            if number in held:
                scripts.append(self._extend(number, held[number]))
            scripts.append(self._rescue.rescue(number, self._rescue_pace))
        await _all(scripts)

    def _held_by_partition(self) -> dict[int, list[Execution]]:
        held: dict[int, list[Execution]] = defaultdict(list)
        for execution in self._held:
            held[execution.partition].append(execution)
        return held

    async def _extend(self, partition: int, executions: list[Execution]) -> None:
        pairs = [(one.grant.response_id, one.grant.claim) for one in executions]
        answers = await self._context.queue.leases.extend(partition, pairs)
        for execution, answer in zip(executions, answers, strict=True):
            if execution not in self._held:
                continue  # the job has ended in the meantime and has no lease
            if answer in ("lost", "gone"):
                execution.stop(Stop.LOST if answer == "lost" else Stop.GONE)
            elif answer == "cancel":
                execution.stop(Stop.CANCEL)
            elif answer == "steered":
                execution.steer()


async def _all(calls: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Makes all calls at once, so that their scripts are sent in one write, and waits for all.

    Raises: the first error, when the other calls have ended too.
    """
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
