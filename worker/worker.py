"""Claims and runs jobs up to the worker's limits, and shuts down in two steps.

    quiet   the worker claims no more jobs, and running jobs may finish within the grace period
    stop    the worker returns running jobs to the queue at once; other workers can claim them
            without waiting for the leases to expire

A Redis script claims the jobs. An idle worker waits in a blocking pop on a Redis list, to which a
marker is pushed when a job is queued. If a marker is lost, the worker still looks for jobs after
one second.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import structlog

from jobs.errors import HoldlineError, RedisTrouble
from jobs.names import Partition
from runtime.logs import described
from runtime.loop import cancel_all

from .execute import Execution
from .leases import FAILURE_PAUSE_SECONDS, Leases, RedisHealth
from .stop import Stop

if TYPE_CHECKING:
    from jobs.redis.pipe import Pipe
    from jobs.redis.subscriber import Subscriber
    from jobs.replies import Grant

    from .context import WorkerContext
    from .rescue import Rescue

log = structlog.get_logger()

# A large job takes up to this many times more memory decoded than encoded.
DECODED_BY_ENCODED: Final = 8
# A worker claims at most this many jobs at once, which leaves queued jobs for other idle workers.
MAX_CLAIMED_AT_ONCE: Final = 10
MARKER_SECONDS: Final = 1
EXHAUSTED_SECONDS: Final = 1.0
# A stopping worker looks this often for jobs whose model calls can be continued by now.
HAND_OVER_SECONDS: Final = 0.25
# A stopping worker spends at most this time on returning its jobs to the queue. The limit matters
# if Redis is unavailable.
STOP_SECONDS: Final = 3.0


class Worker:
    """Runs the jobs of one worker process.

    Call `run` once. To shut down, set the event `quiet` and then, if needed, `stop`.

    `waiting` is a connection that is used only for blocking commands, because a blocking command
    delays all later commands on the same connection.
    """

    def __init__(
        self,
        context: WorkerContext,
        waiting: Pipe,
        subscriber: Subscriber,
        rescue: Rescue,
        quiet: asyncio.Event,
        stop: asyncio.Event,
    ) -> None:
        self._context = context
        self._waiting = waiting
        self._subscriber = subscriber
        self._quiet = quiet
        self._stop = stop
        self._partitions = list(range(context.config.shared.partitions))
        self._markers = {Partition(number).wake: number for number in self._partitions}
        self._claims = {number: secrets.token_hex(8) for number in self._partitions}
        self._rates = {
            name: endpoint.rates
            for name, endpoint in context.config.endpoints.items()
            if any(endpoint.rates)
        }
        self._held: dict[Execution, asyncio.Task[None]] = {}
        self._freed = asyncio.Event()
        self._paused_until = 0.0  # compared with time.monotonic()
        # The pending blocking pop. If a job ends before a marker arrives, the worker claims again
        # and keeps this pop pending.
        self._pop: asyncio.Future[Any] | None = None
        self._health = RedisHealth()
        self._leases = Leases(
            context, rescue, self._held.keys(), self._health, lambda: not quiet.is_set()
        )

    async def run(self) -> None:
        """Claims and runs jobs until `quiet` is set.

        After that, jobs may finish within the grace period. Unfinished jobs return to the queue.
        """
        for number in self._partitions:
            # While the subscription is down, the worker learns of a cancellation only at the next
            # lease renewal.
            self._subscriber.subscribe(
                Partition(number).cancels, self._on_cancel, self._leases.renew_now
            )
        try:
            async with self._leases, asyncio.TaskGroup() as group:
                claiming = group.create_task(self._claim_until_cancelled(), name="claim")
                await self._quiet.wait()
                claiming.cancel()
                await self._drain()
        finally:
            await self._give_back()

    # Claiming jobs

    async def _claim_until_cancelled(self) -> None:
        partitions = self._partitions
        try:
            while True:
                await self._wait_for_room()
                self._freed.clear()
                try:
                    if not await self._claim(partitions):
                        partitions = await self._wait_for_marker()
                    self._health.succeeded()
                except RedisTrouble as error:
                    self._health.failed(error)
                    partitions = self._partitions
                    await asyncio.sleep(random.uniform(*FAILURE_PAUSE_SECONDS))  # noqa: S311 - jitter need not be secure
        finally:
            if self._pop is not None:
                self._pop.cancel()
                await asyncio.wait({self._pop})

    async def _wait_for_room(self) -> None:
        """Waits until the worker can hold one more job and renew its lease on time."""
        while True:
            if min(self._left) <= 0:
                self._freed.clear()
                await self._freed.wait()
            elif (pause := self._paused_until - time.monotonic()) > 0:
                await asyncio.sleep(pause)
            elif self._leases.pace.left <= 0:
                await self._leases.pace.wait()
            else:
                return

    async def _claim(self, partitions: list[int]) -> bool:
        """Claims jobs of these partitions of the queue and starts them.

        Returns True if more jobs may be queued: a partition returned as many jobs as were
        requested, or the worker had no room for more. Otherwise returns False.
        """
        more = False
        pace = self._leases.pace
        for number in partitions:
            jobs_left, bytes_left = self._left
            most = min(jobs_left, pace.left, MAX_CLAIMED_AT_ONCE)
            if most <= 0 or bytes_left <= 0:
                return True
            # The claim id changes only after Redis has replied. If only the reply was lost, a
            # repeated request with the same id returns the same jobs.
            grants = await self._context.queue.leases.claim(
                number,
                self._claims[number],
                most,
                self._room_by_model(),
                self._rates,
                max_job_bytes=max(bytes_left // DECODED_BY_ENCODED, 1),
            )
            self._claims[number] = secrets.token_hex(8)
            pace.claimed(len(grants))
            for grant in grants:
                self._start(number, grant)
            # If Redis returned fewer jobs than requested, no other queued job can run on this
            # worker now. A later submission pushes a marker, unless the list already has enough
            # markers.
            more = more or len(grants) == most or min(self._left) <= 0
        return more

    @property
    def _left(self) -> tuple[int, int]:
        """The number and the total size in bytes of the jobs that the worker can still take."""
        config = self._context.config
        size = sum(execution.size for execution in self._held)
        return config.concurrency - len(self._held), config.max_held_bytes - size

    def _room_by_model(self) -> dict[str, int]:
        """Returns the number of further jobs for each model that has its own concurrency limit.

        Jobs of a model that has reached its limit stay in the queue, where they do not delay jobs
        of other models.
        """
        config, router = self._context.config, self._context.router
        held = Counter(execution.grant.model for execution in self._held)
        return {
            name: max(endpoint.concurrency - held[name] - router.borrowed(name), 0)
            for name, endpoint in config.endpoints.items()
            if endpoint.concurrency < config.concurrency
        }

    async def _wait_for_marker(self) -> list[int]:
        """Waits until a job is queued or a running job ends.

        Returns the partitions from which to claim jobs next.
        """
        pop = self._pop or self._waiting.pop(self._markers, MARKER_SECONDS)
        self._pop = None
        if self._room_by_model():
            self._pop = pop = asyncio.ensure_future(pop)
            freed = asyncio.create_task(self._freed.wait(), name="freed")
            try:
                await asyncio.wait({pop, freed}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                freed.cancel()
            if not pop.done():
                # The pop stays pending, and the next call to this method awaits it.
                return self._partitions
            self._pop = None
        reply = await pop
        # If no marker arrived, the worker claims from all partitions, because a marker may have
        # been lost.
        return self._partitions if reply is None else [self._markers[reply[0].decode()]]

    def _start(self, partition: int, grant: Grant) -> None:
        execution = Execution(self._context, partition, grant)
        self._held[execution] = asyncio.create_task(self._work(execution), name="job")

    async def _work(self, execution: Execution) -> None:
        response_id = execution.grant.response_id
        try:
            await execution.run()
        except RedisTrouble as error:
            # The job's lease expires. Then the first worker that can reach Redis again takes the
            # job over.
            log.warning(
                "job abandoned: Redis unavailable",
                response_id=response_id,
                error=type(error).__name__,
            )
        except Exception as error:  # noqa: BLE001 - other jobs must go on
            log.error(
                "unhandled error in job: attempt failed",
                response_id=response_id,
                error=described(error),
            )
            with contextlib.suppress(HoldlineError):
                await execution.fail()
        finally:
            if execution.exhausted:
                self._pause()
            del self._held[execution]
            self._freed.set()

    def _pause(self) -> None:
        """Stops claiming jobs for a while.

        Meanwhile, running jobs can end, and other workers can claim the queued jobs.
        """
        if self._paused_until < time.monotonic():
            log.error(
                "job claims paused: no free file descriptors or memory",
                jobs=len(self._held),
                seconds=EXHAUSTED_SECONDS,
                action="raise the limit of open files, or lower HOLDLINE_CONCURRENCY",
            )
        self._paused_until = time.monotonic() + EXHAUSTED_SECONDS

    def _on_cancel(self, payload: bytes) -> None:
        # The notification is only a hint. The reply to the lease renewal names the jobs to cancel.
        response_id = payload.decode(errors="replace")
        if any(execution.grant.response_id == response_id for execution in self._held):
            self._leases.renew_now()

    # Stopping the worker

    async def _drain(self) -> None:
        """Waits for running jobs until the grace period is over or `stop` is set."""
        log.info(
            "shutting down: claiming no more jobs",
            jobs=len(self._held),
            seconds=self._context.config.grace,
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._context.config.grace):
                stopping = asyncio.create_task(self._stop.wait(), name="stop")
                try:
                    while self._held and not stopping.done():
                        self._hand_over()
                        await asyncio.wait(
                            {stopping, *self._held.values()},
                            timeout=HAND_OVER_SECONDS,
                            return_when=asyncio.FIRST_COMPLETED,
                        )
                finally:
                    stopping.cancel()
        await self._give_back()

    def _hand_over(self) -> None:
        """Returns the jobs to the queue whose model calls another worker can continue."""
        for execution in self._held:
            if execution.can_be_continued:
                execution.stop(Stop.GIVE_BACK)

    async def _give_back(self) -> None:
        for execution in self._held:
            execution.stop(Stop.GIVE_BACK)
        # If Redis is unavailable, the jobs cannot be returned to the queue. Their leases then
        # expire, and other workers take them over.
        await cancel_all(self._held.values(), grace=STOP_SECONDS)
