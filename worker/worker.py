"""The worker: claims jobs while it has room for them, and stops in two steps.

    quiet   nothing new is claimed; running jobs may finish within the grace
    stop    jobs that still run are given back at once, so that no lease has to run out

Jobs are claimed by a script and by nothing else. An idle worker blocks on a Redis list for a marker
that says that something was queued. If a marker is lost, the worker looks anyway after a second.
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

# A large job takes so many times its bytes once it is decoded.
DECODED_BY_ENCODED: Final = 8
# A claim takes a few jobs at a time, so that idle workers share them.
MAX_CLAIMED_AT_ONCE: Final = 10
MARKER_SECONDS: Final = 1
EXHAUSTED_SECONDS: Final = 1.0
# The time for giving back; Redis may be unavailable.
STOP_SECONDS: Final = 3.0


class Worker:
    """One worker process. Call `run` once, and then set the events `quiet` and `stop` in turn.

    `waiting` is a connection of its own, because a blocking command delays every later one.
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
        # A blocking pop under way. If a slot frees first, the worker claims and keeps the pop.
        self._pop: asyncio.Future[Any] | None = None
        self._health = RedisHealth()
        self._leases = Leases(
            context, rescue, self._held.keys(), self._health, lambda: not quiet.is_set()
        )

    async def run(self) -> None:
        """Works until `quiet`, then finishes or gives back the jobs that it holds."""
        for number in self._partitions:
            # While not subscribed, a cancellation is noticed when the lease is next renewed.
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
        """Returns when one more job can be held and its lease be kept."""
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

        Returns False if no partition filled its claim, so that no job is known to wait; True if
        more may wait, or if there was no room to look.
        """
        more = False
        pace = self._leases.pace
        for number in partitions:
            jobs_left, bytes_left = self._left
            most = min(jobs_left, pace.left, MAX_CLAIMED_AT_ONCE)
            if most <= 0 or bytes_left <= 0:
                return True
            # A claim is reused until it is answered. If only the reply is lost, the same
            # claim gets the same jobs.
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
            # A claim that was not filled leaves nothing behind. A later submission leaves a marker,
            # unless enough markers are there already.
            more = more or len(grants) == most or min(self._left) <= 0
        return more

    @property
    def _left(self) -> tuple[int, int]:
        """How many more jobs can be held, and how many bytes of them."""
        config = self._context.config
        size = sum(execution.size for execution in self._held)
        return config.concurrency - len(self._held), config.max_held_bytes - size

    def _room_by_model(self) -> dict[str, int]:
        """How many more jobs of each model with a limit of its own can be held.

        Jobs of a model without room stay in the queue, where they delay no others.
        """
        config, router = self._context.config, self._context.router
        held = Counter(execution.grant.model for execution in self._held)
        return {
            name: max(endpoint.concurrency - held[name] - router.borrowed(name), 0)
            for name, endpoint in config.endpoints.items()
            if endpoint.concurrency < config.concurrency
        }

    async def _wait_for_marker(self) -> list[int]:
        """Waits for a marker, or for a free place of a model; returns the partitions to look at."""
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
                return self._partitions  # the pop goes on, and its marker is for the next time
            self._pop = None
        reply = await pop
        # Without a marker look at all partitions: one may have been lost.
        return self._partitions if reply is None else [self._markers[reply[0].decode()]]

    def _start(self, partition: int, grant: Grant) -> None:
        execution = Execution(self._context, partition, grant)
        self._held[execution] = asyncio.create_task(self._work(execution), name="job")

    async def _work(self, execution: Execution) -> None:
        response_id = execution.grant.response_id
        try:
            await execution.run()
        except RedisTrouble as error:
            # Its lease runs out, and the first worker that reaches Redis again takes it.
            log.warning(
                "job abandoned: Redis unavailable",
                response_id=response_id,
                error=type(error).__name__,
            )
        except Exception as error:  # noqa: BLE001 - the edge of a job: the others go on
            log.error("job failed", response_id=response_id, error=described(error))
            with contextlib.suppress(HoldlineError):
                await execution.fail()
        finally:
            if execution.exhausted:
                self._pause()
            del self._held[execution]
            self._freed.set()

    def _pause(self) -> None:
        """Claims nothing for a while, so that running jobs end and other workers are first."""
        if self._paused_until < time.monotonic():
            log.error(
                "claims paused: no free file descriptors or memory",
                held=len(self._held),
                seconds=EXHAUSTED_SECONDS,
            )
        self._paused_until = time.monotonic() + EXHAUSTED_SECONDS

    def _on_cancel(self, payload: bytes) -> None:
        # A notification is only a hint: the renewal that follows finds what is to be cancelled.
        response_id = payload.decode(errors="replace")
        if any(execution.grant.response_id == response_id for execution in self._held):
            self._leases.renew_now()

    # Stopping

    async def _drain(self) -> None:
        """Waits for running jobs, until the grace is over or `stop` is set."""
        log.info("draining", running=len(self._held), grace=self._context.config.grace)
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
        # If Redis is unavailable, the leases run out.
        await cancel_all(self._held.values(), grace=STOP_SECONDS)
