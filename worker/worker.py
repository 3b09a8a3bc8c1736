"""The worker: claims as much as it has room for, keeps its leases, stops in two steps.

    quiet   nothing new is claimed; what runs may finish within the grace
    stop    what still runs is given back at once: nobody waits for a lease to run out

A claim is made by a script and by nothing else. What an idle worker blocks on is only a marker that
says "look now": losing one costs a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import structlog

from jobs.errors import HoldlineError, RedisTrouble
from jobs.names import Partition
from jobs.redis.connection import RECONNECT_SECONDS
from runtime.logs import described

from .execute import Execution, Stop

if TYPE_CHECKING:
    from jobs.redis.pipe import Pipe
    from jobs.redis.subscriber import Subscriber
    from jobs.replies import Grant

    from .context import WorkerContext
    from .rescue import Rescue

log = structlog.get_logger()

# A claim takes a few at a time, so that several idle workers share what comes in.
CLAIM_AT_ONCE: Final = 10
WAKE_SECONDS: Final = 1
# How long giving back may take; Redis may be away just now.
STOP_SECONDS: Final = 3.0
LEAST_BEAT_SECONDS: Final = 0.05
# The part of a lease after which a renewal is late; two beats are due in it.
LATE: Final = 0.75
UNPACED: Final = 1_000_000
TROUBLE_SECONDS: Final = (0.2, 1.0)


class Worker:
    """One worker process. `run` once; the events `quiet` and then `stop` are set from outside.

    `waiting` is a connection of its own: a blocking command holds up whatever comes after it.
    """

    def __init__(
        self,
        context: WorkerContext,
        waiting: Pipe,
        bell: Subscriber,
        rescue: Rescue,
        quiet: asyncio.Event,
        stop: asyncio.Event,
    ) -> None:
        self._context = context
        self._waiting = waiting
        self._bell = bell
        self._rescue = rescue
        self._partitions = range(context.config.terms.partitions)
        self._wakes = {Partition(number).wake: number for number in self._partitions}
        self._tokens = {number: secrets.token_hex(8) for number in self._partitions}
        self._held: dict[Execution, asyncio.Task[None]] = {}
        self._freed = asyncio.Event()
        self._hurry = asyncio.Event()
        # A pop that waits for a marker; it outlives a look that something else was the reason for.
        self._blocked: asyncio.Future[Any] | None = None
        self._trouble = False
        # How many jobs may be taken between two beats, and have been.
        self._pace = UNPACED
        self._taken = 0
        self._on_time = asyncio.Event()
        self._rates = {
            name: endpoint.rates
            for name, endpoint in context.config.endpoints.items()
            if any(endpoint.rates)
        }
        self._quiet = quiet
        self._stop = stop

    @property
    def running(self) -> int:
        """How many jobs this worker holds."""
        return len(self._held)

    async def run(self) -> None:
        """Works until `quiet`, then finishes or gives back what it holds."""
        for number in self._partitions:
            # A cancel that is asked for while nobody listens is found at the next beat.
            self._bell.subscribe(Partition(number).cancels, self._on_cancels, self._hurry.set)
        try:
            async with asyncio.TaskGroup() as group:
                claiming = group.create_task(self._claim_for_ever(), name="claim")
                beating = group.create_task(self._beat_for_ever(), name="beat")
                await self._quiet.wait()
                claiming.cancel()
                await self._drain()
                beating.cancel()
        finally:
            await self._give_back()

    # Claiming

    async def _claim_for_ever(self) -> None:
        woken: list[int] = list(self._partitions)
        try:
            while True:
                await self._room()
                self._freed.clear()
                try:
                    if not await self._claim(woken):
                        woken = await self._woken()
                    self._well()
                except RedisTrouble as error:
                    self._unwell(error)
                    woken = list(self._partitions)
                    await asyncio.sleep(random.uniform(*TROUBLE_SECONDS))  # noqa: S311 - jitter
        finally:
            if self._blocked is not None:
                self._blocked.cancel()
                await asyncio.wait({self._blocked})

    async def _room(self) -> None:
        """Returns when one more job can be held, and kept."""
        while True:
            if len(self._held) >= self._context.config.concurrency:
                self._freed.clear()
                await self._freed.wait()
            elif self._taken >= self._pace:
                await self._on_time.wait()
            else:
                return

    async def _claim(self, partitions: list[int]) -> bool:
        """Starts what waits in these partitions; False if nothing is left that could be started."""
        more = False
        for number in partitions:
            free = min(self._context.config.concurrency - len(self._held), self._pace - self._taken)
            if free <= 0:
                return True
            # A token is used until its claim was answered: where only the reply was lost, the
            # same token is handed the same jobs.
            token = self._tokens[number]
            most = min(free, CLAIM_AT_ONCE)
            grants = await self._context.queue.claim(
                number, token, most, self._rooms(), self._rates
            )
            self._tokens[number] = secrets.token_hex(8)
            self._taken += len(grants)
            for grant in grants:
                self._start(number, grant)
            # Who comes from now on brings a marker.
            more = more or len(grants) == most
        return more

    def _rooms(self) -> dict[str, int]:
        """How many more there may be of each model that has a limit of its own.

        What waits for a model without room stays in the queue, where it holds up nobody.
        """
        config, router = self._context.config, self._context.router
        held = Counter(execution.grant.model for execution in self._held)
        return {
            name: max(endpoint.concurrency - held[name] - router.borrowed(name), 0)
            for name, endpoint in config.endpoints.items()
            if endpoint.concurrency < config.concurrency
        }

    async def _woken(self) -> list[int]:
        """Waits for a marker, or for room that may be what was missing; where to look."""
        pop = self._blocked or self._waiting.pop(self._wakes, WAKE_SECONDS)
        self._blocked = None
        if self._rooms():
            self._blocked = pop = asyncio.ensure_future(pop)
            freed = asyncio.create_task(self._freed.wait(), name="freed")
            try:
                await asyncio.wait({pop, freed}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                freed.cancel()
            if not pop.done():
                return list(self._partitions)  # The pop goes on: its marker is for the next time.
            self._blocked = None
        reply = await pop
        # Without a marker look everywhere: one may have been lost.
        return list(self._partitions) if reply is None else [self._wakes[reply[0].decode()]]

    def _start(self, partition: int, grant: Grant) -> None:
        execution = Execution(self._context, partition, grant)
        self._held[execution] = asyncio.create_task(self._work(execution), name="job")

    async def _work(self, execution: Execution) -> None:
        response_id = execution.grant.response_id
        try:
            await execution.run()
        except RedisTrouble as error:
            # Its lease runs out, and whoever finds Redis again first takes it.
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
            del self._held[execution]
            self._freed.set()

    # Keeping leases

    async def _beat_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        lease = self._context.config.terms.lease_ms / 1000
        period = max(lease / 3, LEAST_BEAT_SECONDS)
        due = loop.time() + period
        rescue_at = extended = loop.time()
        late = False
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._hurry.wait()
            self._hurry.clear()
            now = loop.time()
            try:
                await self._extend()
                gap, extended = loop.time() - extended, now
                self._kept(gap, lease)
                if gap > lease * LATE and not late:
                    # If Redis was away, the others' leases have run out as well: they get the time
                    # to find it again. Only once: who is always late must rescue all the same.
                    rescue_at = loop.time() + lease + RECONNECT_SECONDS[1]
                late = gap > lease * LATE
                # Own leases first: after a pause of this process or of Redis they have run out,
                # and a rescue must not take them from a worker that is alive.
                if now >= due and now >= rescue_at and not self._quiet.is_set():
                    for number in self._partitions:
                        await self._rescue.rescue(number)
            except RedisTrouble as error:
                self._unwell(error)
                late = False
                due = loop.time() + min(period, random.uniform(*TROUBLE_SECONDS))  # noqa: S311 - jitter
            else:
                if now >= due:
                    due = loop.time() + period

    def _kept(self, gap: float, lease: float) -> None:
        """Takes less after a gap in which leases may have run out, and more after each good beat.

        Something held the loop, or the process was stopped, or the machine has too much to do.
        Several workers that take from each other what each of them loses again would never
        finish anything; who takes little keeps it.
        """
        self._taken = 0
        if gap > lease * LATE:
            log.warning("leases renewed late", seconds=round(gap, 3), holding=len(self._held))
            self._pace = 1
        else:
            self._pace = min(self._pace * 2, UNPACED)
            self._on_time.set()
            self._on_time.clear()

    async def _extend(self) -> None:
        # Who holds nothing asks as well: a rescue must not be the first that a Redis which was away
        # is asked for.
        held: dict[int, list[Execution]] = {number: [] for number in self._partitions}
        for execution in self._held:
            held[execution.partition].append(execution)
        for number, executions in held.items():
            pairs = [(one.grant.response_id, one.grant.claim) for one in executions]
            answers = await self._context.queue.extend(number, pairs)
            for execution, answer in zip(executions, answers, strict=True):
                if execution not in self._held:
                    continue  # It ended meanwhile, and what has ended has no lease.
                if answer == "lost":
                    execution.stop(Stop.LOST)
                elif answer == "cancel":
                    execution.stop(Stop.CANCEL)

    def _on_cancels(self, payload: bytes) -> None:
        # The bell is only a hint: the next `extend` says what it context, and it comes at once.
        response_id = payload.decode(errors="replace")
        if any(execution.grant.response_id == response_id for execution in self._held):
            self._hurry.set()

    # Stopping

    async def _drain(self) -> None:
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
        tasks = set(self._held.values())
        if not tasks:
            return
        for execution in self._held:
            execution.stop(Stop.GIVE_BACK)
        _, late = await asyncio.wait(tasks, timeout=STOP_SECONDS)
        for task in late:
            task.cancel()  # Redis is away: the leases run out.
        await asyncio.gather(*late, return_exceptions=True)

    # Saying that Redis is away, once

    def _unwell(self, error: RedisTrouble) -> None:
        if not self._trouble:
            self._trouble = True
            log.warning("Redis failing", error=type(error).__name__, detail=str(error))

    def _well(self) -> None:
        if self._trouble:
            self._trouble = False
            log.info("Redis recovered")
