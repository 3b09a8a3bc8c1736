"""Claims and runs jobs up to the worker's limits, and shuts down in two steps.

    quiet   the worker claims no more jobs, and running jobs may finish within the grace period
    stop    the worker returns running jobs to the queue at once; other workers can claim them
            without waiting for the leases to expire

A Redis script claims the jobs. A notification wakes an idle worker when a job is queued, as the
module `wakeups` describes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import structlog

from jobs.errors import HoldlineError, RedisFull, RedisNotReady, RedisRefused, RedisTrouble
from jobs.names import Partition
from jobs.worker_registry import WorkerState
from runtime import tracing
from runtime.logs import described
from runtime.loop import cancel_all

from .execute import Execution
from .leases import FAILURE_PAUSE_SECONDS, Leases, RedisHealth
from .registration import Registration
from .spans import attempt_span
from .stop import Stop
from .wakeups import WakeUps

if TYPE_CHECKING:
    from jobs.redis.subscriber import Subscriber
    from jobs.replies import Grant

    from .context import WorkerContext
    from .rescue import Rescue

log = structlog.get_logger()

# A large job takes up to this many times more memory decoded than encoded.
DECODED_BY_ENCODED: Final = 8
# A worker claims at most this many jobs at once, which leaves queued jobs for other idle workers.
MAX_CLAIMED_AT_ONCE: Final = 10
EXHAUSTED_SECONDS: Final = 1.0
# The interval at which a stopping worker looks for jobs that another worker can continue.
HAND_OVER_SECONDS: Final = 0.25
# A stopping worker spends at most this time on returning its jobs to the queue. The limit matters
# if Redis is unavailable.
STOP_SECONDS: Final = 3.0
# The reasons for which a worker claims no jobs, by the error of its last request to Redis.
PAUSES: Final[dict[type[RedisTrouble], str]] = {
    RedisFull: "redis_full",
    RedisNotReady: "redis_not_ready",
    RedisRefused: "redis_refused",
}
# The reason why a worker claims fewer jobs, or none until the next renewal of its leases.
RENEWED_LATE: Final = "leases_renewed_late"


class Worker:
    """Runs the jobs of one worker process.

    Call `run` once. To shut down, set the event `quiet` and then, if needed, `stop`.
    """

    def __init__(
        self,
        context: WorkerContext,
        subscriber: Subscriber,
        rescue: Rescue,
        quiet: asyncio.Event,
        stop: asyncio.Event,
    ) -> None:
        self._context = context
        self._subscriber = subscriber
        self._quiet = quiet
        self._stop = stop
        self._partitions = context.config.shared.partitions
        self._wakeups = WakeUps(context.queue.leases, self._partitions, context.fleet)
        self._claims = {number: secrets.token_hex(8) for number in self._partitions}
        # The models of the models file, none of which has a limit here.
        self._served = dict.fromkeys(context.config.endpoints, -1)
        self._rates = {
            name: endpoint.rates
            for name, endpoint in context.config.endpoints.items()
            if any(endpoint.rates)
        }
        self._limited = {
            name: endpoint.concurrency
            for name, endpoint in context.config.endpoints.items()
            if endpoint.concurrency < context.config.concurrency
        }
        self._held: dict[Execution, asyncio.Task[None]] = {}
        self._freed = asyncio.Event()
        self._paused_until = 0.0  # compared with time.monotonic()
        self._health = RedisHealth()
        self._leases = Leases(
            context, rescue, self._held.keys(), self._health, lambda: not quiet.is_set()
        )
        self._registration = Registration(
            context, self._wakeups.worker, self.state, self._held.keys()
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
        self._wakeups.subscribe(self._subscriber)
        try:
            async with self._registration, self._leases, asyncio.TaskGroup() as group:
                claiming = group.create_task(self._claim_until_cancelled(), name="claim")
                await self._quiet.wait()
                self._registration.write_now()
                claiming.cancel()
                self._wakeups.unsubscribe(self._subscriber)
                await self._drain()
        finally:
            await self._give_back()

    def state(self) -> tuple[WorkerState, str]:
        """Returns the state of the worker, and why it claims no or fewer jobs, or ""."""
        if self._quiet.is_set():
            return WorkerState.DRAINING, ""
        if self._health.error is not None:
            return WorkerState.PAUSED, PAUSES.get(type(self._health.error), "redis_unavailable")
        if self._paused_until > time.monotonic():
            return WorkerState.PAUSED, "worker_exhausted"
        if self._leases.pace.left <= 0:
            return WorkerState.PAUSED, RENEWED_LATE
        return WorkerState.READY, RENEWED_LATE if self._leases.pace.is_reduced else ""

    @property
    def concurrency(self) -> int:
        """The maximum number of jobs that the worker runs at once."""
        return self._context.config.concurrency

    @property
    def load(self) -> tuple[int, int]:
        """The number of the running jobs, and their estimated size in bytes."""
        return len(self._held), sum(execution.size for execution in self._held)

    # Claiming jobs

    async def _claim_until_cancelled(self) -> None:
        while True:
            try:
                await self._wait_for_room()
                await self._claim(await self._wakeups.next())
                self._health.succeeded()
            except RedisTrouble as error:
                self._health.failed(error)
                await asyncio.sleep(random.uniform(*FAILURE_PAUSE_SECONDS))  # noqa: S311 - jitter need not be secure

    async def _wait_for_room(self) -> None:
        """Waits until the worker can hold one more job and renew its lease on time.

        Meanwhile, other workers are woken for the jobs for which this worker was woken.
        """
        pace = self._leases.pace
        while True:
            self._freed.clear()
            pause = self._paused_until - time.monotonic()
            full = min(self._left) <= 0
            self._wakeups.full = full or pause > 0 or pace.left <= 0
            if not self._wakeups.full:
                return
            self._wakeups.pass_on()
            if full:
                await self._freed.wait()
            elif pause > 0:
                await asyncio.sleep(pause)
            else:
                await pace.wait()

    async def _claim(self, partition: int) -> None:
        """Claims jobs of a partition and starts them. Raises: RedisTrouble."""
        pace = self._leases.pace
        jobs_left, bytes_left = self._left
        most = min(jobs_left, pace.left, MAX_CLAIMED_AT_ONCE)
        if most <= 0 or bytes_left <= 0:
            self._wakeups.put_back(partition)
            return
        try:
            # The claim id changes only after Redis has replied. If only the reply was lost, a
            # repeated request with the same id returns the same jobs.
            grants = await self._context.queue.leases.claim(
                partition,
                self._claims[partition],
                most,
                self._room_by_model(),
                self._rates,
                max_job_bytes=max(bytes_left // DECODED_BY_ENCODED, 1),
                worker=self._wakeups.worker,
                only_listed=bool(self._served),
            )
        except RedisTrouble:
            self._wakeups.put_back(partition)
            raise
        self._claims[partition] = secrets.token_hex(8)
        pace.claimed(len(grants))
        for grant in grants:
            self._start(partition, grant)
        if grants.more:
            self._wakeups.add(partition)
        elif grants.blocked:
            self._wakeups.blocked(partition)

    @property
    def _left(self) -> tuple[int, int]:
        """The number and the total size in bytes of the jobs that the worker can still take."""
        config = self._context.config
        jobs, size = self.load
        return config.concurrency - jobs, config.max_held_bytes - size

    def _room_by_model(self) -> dict[str, int]:
        """Returns the number of further jobs of each model in the models file; -1 means no limit.

        Jobs of a model that has reached its own concurrency limit stay in the queue, where they do
        not delay jobs of other models.
        """
        if not self._limited:
            return self._served
        router = self._context.router
        held = Counter(execution.grant.model for execution in self._held)
        return self._served | {
            name: max(most - held[name] - router.borrowed(name), 0)
            for name, most in self._limited.items()
        }

    def _start(self, partition: int, grant: Grant) -> None:
        execution = Execution(self._context, partition, grant)
        self._held[execution] = asyncio.create_task(self._work(execution), name="job")

    async def _work(self, execution: Execution) -> None:
        with attempt_span(execution.grant):
            await self._run(execution)

    async def _run(self, execution: Execution) -> None:
        response_id = execution.grant.response_id
        try:
            await execution.run()
        except RedisTrouble as error:
            tracing.current().fail(type(error).__name__)
            # The job's lease expires. Then the first worker that can reach Redis again takes the
            # job over.
            log.warning(
                "job abandoned: Redis unavailable",
                response_id=response_id,
                error=type(error).__name__,
            )
        except Exception as error:  # noqa: BLE001 - other jobs must go on
            tracing.current().fail(type(error).__name__)
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
            self._wakeups.watch(execution.partition)  # the job may be due for a retry
            self._freed.set()
            if self._limited:
                self._wakeups.freed()

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
