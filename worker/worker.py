"""Claims and runs jobs up to the worker's limits, and shuts down in two steps.

    quiet   no more jobs are claimed; running jobs may finish within the grace period
    stop    running jobs are given back at once, so that other workers need not wait for their
            leases to expire

Jobs are claimed only by a Redis script. An idle worker blocks on a Redis list of markers, one of
which is pushed when a job is queued. If a marker is lost, the worker still looks after a second.
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

from .execute import Execution, Stop
from .leases import FAILURE_PAUSE_SECONDS, Leases, RedisHealth

if TYPE_CHECKING:
    from jobs.redis.pipe import Pipe
    from jobs.redis.subscriber import Subscriber
    from jobs.replies import Grant

    from .context import WorkerContext
    from .rescue import Rescue

log = structlog.get_logger()

# The memory that a large decoded job takes, as a multiple of its encoded size.
DECODED_BY_ENCODED: Final = 8
# Claims are small, so that idle workers share the queued jobs.
MAX_CLAIMED_AT_ONCE: Final = 10
MARKER_SECONDS: Final = 1
EXHAUSTED_SECONDS: Final = 1.0
# The time limit for giving jobs back, in case Redis is unavailable.
STOP_SECONDS: Final = 3.0


class Worker:
    """Runs the jobs of one worker process.

    Call `run` once. To shut down, set the event `quiet` and then, if needed, `stop`.

    `waiting` is a separate connection for blocking commands, which delay all later commands on
    their connection.
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
        self._paused_until = 0.0  # by time.monotonic()
        # The pending blocking pop. It is kept if a job ends first and the worker claims again.
        self._pop: asyncio.Future[Any] | None = None
        self._health = RedisHealth()
        self._leases = Leases(
            context, rescue, self._held.keys(), self._health, lambda: not quiet.is_set()
        )

    async def run(self) -> None:
        """Claims and runs jobs until `quiet` is set, then finishes or gives back its jobs."""
        for number in self._partitions:
            # Without a subscription, a cancellation is noticed at the next lease renewal.
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

    # Claiming

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
                    await asyncio.sleep(random.uniform(*FAILURE_PAUSE_SECONDS))  # noqa: S311 - jitter
        finally:
            if self._pop is not None:
                self._pop.cancel()
                await asyncio.wait({self._pop})

    async def _wait_for_room(self) -> None:
        """Waits until one more job can be held and its lease renewed on time."""
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
        """Claims and starts jobs of these partitions.

        Returns False if no partition filled its claim, so that no further job is known to be
        queued. Returns True if more jobs may be queued, or if there was no room to claim them.
        """
        more = False
        pace = self._leases.pace
        for number in partitions:
            jobs_left, bytes_left = self._left
            most = min(jobs_left, pace.left, MAX_CLAIMED_AT_ONCE)
            if most <= 0 or bytes_left <= 0:
                return True
            # A claim is reused until Redis replies. If only the reply is lost, the same claim gets
            # the same jobs.
            grants = await self._context.queue.claim(
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
            # A claim that was not filled has left no job that this worker could run. A later
            # submission pushes a marker, unless the list has enough markers already.
            more = more or len(grants) == most or min(self._left) <= 0
        return more

    @property
    def _left(self) -> tuple[int, int]:
        """The number of jobs that can still be held, and their bytes."""
        config = self._context.config
        size = sum(execution.size for execution in self._held)
        return config.concurrency - len(self._held), config.max_held_bytes - size

    def _room_by_model(self) -> dict[str, int]:
        """Returns how many more jobs can be held of each model with its own concurrency limit.

        Jobs of a model at its limit stay in the queue, where they do not delay other jobs.
        """
        config, router = self._context.config, self._context.router
        held = Counter(execution.grant.model for execution in self._held)
        return {
            name: max(endpoint.concurrency - held[name] - router.borrowed(name), 0)
            for name, endpoint in config.endpoints.items()
            if endpoint.concurrency < config.concurrency
        }

    async def _wait_for_marker(self) -> list[int]:
        """Waits for a marker or for the end of a job, and returns the partitions to claim from."""
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
                return self._partitions  # the pop stays pending, and the next call awaits it
            self._pop = None
        reply = await pop
        # Without a marker, claim from all partitions, because a marker may have been lost.
        return self._partitions if reply is None else [self._markers[reply[0].decode()]]

    def _start(self, partition: int, grant: Grant) -> None:
        execution = Execution(self._context, partition, grant)
        self._held[execution] = asyncio.create_task(self._work(execution), name="job")

    async def _work(self, execution: Execution) -> None:
        response_id = execution.grant.response_id
        try:
            await execution.run()
        except RedisTrouble as error:
            # The lease expires, and the first worker that reaches Redis again takes the job over.
            log.warning(
                "job abandoned: Redis unavailable",
                response_id=response_id,
                error=type(error).__name__,
            )
        except Exception as error:  # noqa: BLE001 - the edge of a job: the others go on
            log.error("unhandled error in job", response_id=response_id, error=described(error))
            with contextlib.suppress(HoldlineError):
                await execution.fail()
        finally:
            if execution.exhausted:
                self._pause()
            del self._held[execution]
            self._freed.set()

    def _pause(self) -> None:
        """Pauses claims, so that running jobs can end and other workers claim first."""
        if self._paused_until < time.monotonic():
            log.error(
                "job claims paused: no free file descriptors or memory",
                jobs=len(self._held),
                seconds=EXHAUSTED_SECONDS,
                action="raise the limit of open files, or lower HOLDLINE_CONCURRENCY",
            )
        self._paused_until = time.monotonic() + EXHAUSTED_SECONDS

    def _on_cancel(self, payload: bytes) -> None:
        # The notification is only a hint. The renewal reports the jobs that are to be cancelled.
        response_id = payload.decode(errors="replace")
        if any(execution.grant.response_id == response_id for execution in self._held):
            self._leases.renew_now()

    # Stopping

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
                        await asyncio.wait(
                            {stopping, *self._held.values()}, return_when=asyncio.FIRST_COMPLETED
                        )
                finally:
                    stopping.cancel()
        await self._give_back()

    async def _give_back(self) -> None:
        for execution in self._held:
            execution.stop(Stop.GIVE_BACK)
        # If Redis is unavailable, the leases expire and other workers take the jobs over.
        await cancel_all(self._held.values(), grace=STOP_SECONDS)
