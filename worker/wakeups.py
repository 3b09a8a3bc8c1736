"""Determines the partitions from which a worker claims jobs next.

A claim after which the worker would find no further jobs adds the worker to the idle workers of the
partition. The next job of the partition wakes one idle worker with a notification. So for each
partition, the worker either is one of its idle workers or has the partition in `_due`, and each
partition is claimed from only when it may have jobs.

A notification may be lost: together with its connection, which is reported as a gap, or with the
process of the woken worker. So once a second, a worker with room also asks Redis whether jobs are
waiting in some partitions:

- in the next `MAX_POLLED` partitions in turn, so that one idle worker alone asks all of n
  partitions within n / `MAX_POLLED` seconds. Workers begin at random partitions, so several workers
  find a job sooner. If each partition would be asked more often than `MAX_POLLED` times per second,
  each worker asks fewer partitions, but at least one. A poll that finds a job shortly before the
  woken worker claims it causes a claim in vain, so more polls would cost more than they help.
- in the partitions of jobs that it has run, because they may be due for a retry, and in those in
  which it has found jobs, until there are none.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Final

from jobs.errors import RedisTrouble
from jobs.names import Partition
from jobs.worker_registry import new_worker_id

from .fleet_share import FleetShare

if TYPE_CHECKING:
    from jobs.lease_store import LeaseStore
    from jobs.redis.subscriber import Subscriber

    from .fleet_share import FleetSize

POLL_SECONDS: Final = 1.0
MAX_POLLED: Final = 8
# The pause before the worker looks again whether the Redis of a due partition is connected.
RECONNECT_SECONDS: Final = 0.1


class WakeUps:
    """The partitions that are due for a claim, in the order of their claims.

    `full` is True while the worker has no room for another job. It then passes its wake-ups on to
    other idle workers.
    """

    def __init__(self, leases: LeaseStore, partitions: range, fleet: FleetSize) -> None:
        self.worker = new_worker_id()
        self._leases = leases
        self._partitions = partitions
        self._share = FleetShare(partitions, fleet, MAX_POLLED, MAX_POLLED)
        # The partitions that each poll asks, because they may have jobs without a wake-up.
        self._watched: set[int] = set()
        self.full = False
        self._due: dict[int, None] = {}
        # The due partitions whose wake-up has not been answered by a claim or passed on.
        self._woken: set[int] = set()
        # The partitions with jobs that the limits of their models did not allow to begin.
        self._blocked: set[int] = set()
        self._changed = asyncio.Event()
        self._next_poll = 0.0

    def subscribe(self, subscriber: Subscriber) -> None:
        """Subscribes to the wake-ups of all partitions. Each of them is due at first."""
        for number in self._partitions:
            subscriber.subscribe(
                Partition(number).wake(self.worker),
                partial(self._on_wake, number),
                partial(self.add, number),
            )

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Ends the subscriptions, because the worker claims no more jobs."""
        for number in self._partitions:
            subscriber.unsubscribe(Partition(number).wake(self.worker))
        self.pass_on()

    def add(self, partition: int) -> None:
        """Makes a partition due, after the partitions that are already due."""
        self._due[partition] = None
        self._changed.set()

    def _on_wake(self, partition: int, _: bytes) -> None:
        self._woken.add(partition)
        self.add(partition)
        if self.full:
            self.pass_on()

    def pass_on(self) -> None:
        """Wakes other workers for the partitions for which this worker was woken in vain."""
        for partition in self._woken:
            self._leases.wake_another(partition)
        self._woken.clear()

    def put_back(self, partition: int) -> None:
        """Makes a partition due again, because `next` returned it, but the claim failed."""
        self._woken.add(partition)
        self.add(partition)

    def blocked(self, partition: int) -> None:
        """Records that a partition has jobs which the limits of their models do not allow now."""
        self._blocked.add(partition)

    def freed(self) -> None:
        """Makes the partitions with blocked jobs due, because a job has ended."""
        for partition in self._blocked:
            self.add(partition)
        self._blocked.clear()

    def watch(self, partition: int) -> None:
        """Asks a partition at each poll, until it has neither waiting jobs nor planned retries."""
        self._watched.add(partition)

    async def next(self) -> int:
        """Waits until a partition is due, and returns it. The caller must claim from it.

        Partitions whose Redis is not connected stay due, and delay no others.

        Raises: RedisTrouble if no partition can be asked for its jobs.
        """
        now = asyncio.get_running_loop().time
        while True:
            self._changed.clear()
            if now() >= self._next_poll:
                await self._poll()
                self._next_poll = now() + POLL_SECONDS
            for partition in self._due:
                if self._leases.is_reachable(partition):
                    del self._due[partition]
                    self._woken.discard(partition)
                    return partition
            pause = RECONNECT_SECONDS if self._due else self._next_poll - now()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()

    async def _poll(self) -> None:
        """Asks some partitions for waiting jobs, and makes those due that have any.

        Raises: RedisTrouble if none of them can be asked.
        """
        asked = [number for number in self._polled() if number not in self._due]
        if any(map(self._leases.is_reachable, self._partitions)):
            asked = [number for number in asked if self._leases.is_reachable(number)]
        # Otherwise these calls wait for a connection.
        replies = await asyncio.gather(*map(self._has_work, asked))
        failed = [reply for reply in replies if isinstance(reply, RedisTrouble)]
        if failed and len(failed) == len(asked):
            raise failed[0]
        for number, reply in zip(asked, replies, strict=True):
            if reply:  # after an error, the claim finds out whether jobs are waiting
                self.watch(number)
                self.add(number)
            else:
                self._watched.discard(number)

    def _polled(self) -> set[int]:
        """Returns the partitions that the next poll asks."""
        return self._watched.union(self._share.next())

    async def _has_work(self, partition: int) -> bool | RedisTrouble:
        try:
            return await self._leases.has_work(partition)
        except RedisTrouble as error:
            return error
