"""Puts a simulated fleet under load, and measures fairness, wake-ups and rescues.

The phases of a run:

1. idle        all workers wait for jobs
2. trickle     jobs arrive one by one, and workers are idle
3. backlog     all tenants submit their jobs at once, the tenant `bulk` half of them and before the
               others; the tenant `single` then submits one job at a time
4. deaths      while most jobs of the backlog still wait, a tenth of the workers die
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from statistics import quantiles
from typing import TYPE_CHECKING, Final, Self, cast

from bench.answers import submit
from command.up.embedded import prepared
from command.up.pdeathsig import with_pdeathsig
from command.up.redis import installed
from jobs.ids import new_response_id
from jobs.names import Partition
from jobs.queue import Queue
from jobs.record import Job

from .redis import LONG_TICK_SECONDS, VirtualPipe, VirtualRedis
from .worker import TOKENS_PER_SECOND, Record, SimulatedWorker, settings

if TYPE_CHECKING:
    from jobs.redis.pipe import Pipe

    from .worker import Book

IDLE_SECONDS: Final = 10
TRICKLE_JOBS: Final = 200
# The time between two jobs of the trickle, if the fleet can answer them with half of its slots.
MIN_TRICKLE_SECONDS: Final = 0.05
TENANTS: Final = 10
# The tenant with a higher weight than the others.
PREFERRED: Final = "weight-4"
WEIGHTS: Final = {PREFERRED: 4}
MEAN_TOKENS: Final = 400
START_SECONDS: Final = 10.0
REDIS_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a simulation."""

    workers: int = 1_000
    jobs: int = 100_000
    partitions: int = 16
    concurrency: int = 10

    @property
    def seconds_per_job(self) -> float:
        """The mean time between the ends of two jobs if all workers are busy."""
        return MEAN_TOKENS / TOKENS_PER_SECOND / (self.workers * self.concurrency)


@dataclass(slots=True)
class Report:
    """The results of a simulation. Times are in virtual seconds, unless the name says otherwise.

    `waits` has the waiting times of the jobs of the backlog by tenant, and `shares` the tokens of
    each tenant in the time in which all tenants had waiting jobs, divided by its weight.
    """

    idle_commands: float = 0.0
    idle_calls: dict[str, float] = field(default_factory=dict)
    trickle_jobs: int = 0
    wake_ups: float = 0.0
    claims: float = 0.0
    empty_claims: float = 0.0
    trickle_waits: list[float] = field(default_factory=list)
    commands: float = 0.0
    waits: dict[str, list[float]] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)
    died: int = 0
    requeued: list[float] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)
    finished: int = 0
    lost: int = 0
    repeated: int = 0
    left: int = 0
    seconds: float = 0.0
    machine_seconds: float = 0.0


@contextlib.asynccontextmanager
async def virtual_redis() -> AsyncIterator[VirtualRedis]:
    """Starts a Redis without persistence, and connects to it."""
    options = ("--client-output-buffer-limit", "pubsub", "0", "0", "0")
    binary = installed(os.environ.get("PATH")).path
    with prepared(binary, None, *options, persist=False) as embedded:
        argv, set_pdeathsig = with_pdeathsig(embedded.argv, signal.SIGKILL)
        process = subprocess.Popen(  # noqa: ASYNC220 - the loop's own time is virtual
            argv,
            preexec_fn=set_pdeathsig,  # noqa: PLW1509 - ends Redis with this process
            pass_fds=[embedded.lock],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + REDIS_SECONDS
            while not embedded.answers():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise TimeoutError(embedded.last_words())
                time.sleep(0.02)  # noqa: ASYNC251 - the loop's own time is virtual
            redis = VirtualRedis(str(embedded.socket))
            try:
                yield redis
            finally:
                redis.close()
        finally:
            process.kill()
            process.wait()


class Fleet:
    """Simulated workers, and the jobs that they run. Use it as an async context manager."""

    def __init__(self, redis: VirtualRedis, size: Size) -> None:
        self.redis = redis
        self.book: Book = {}
        self.workers: list[SimulatedWorker] = []
        self._size = size
        self._random = random.Random(1)  # a run must be repeatable
        self._tasks: dict[SimulatedWorker, asyncio.Task[None]] = {}
        self._config = settings(size.concurrency, size.partitions)
        self._queue = Queue(cast("Pipe", VirtualPipe(redis)), self._config.shared)
        for number in range(size.partitions):
            for tenant, weight in WEIGHTS.items():
                redis.now("HSET", f"{Partition(number).prefix}tenant:{tenant}", "weight", weight)

    async def __aenter__(self) -> Self:
        for _ in range(self._size.workers):
            # The renewals of a real fleet are spread over time, as the starts of its workers are.
            worker = SimulatedWorker(self.redis, self._config, self.book)
            task = asyncio.create_task(self._start_later(worker), name="worker")
            self.workers.append(worker)
            self._tasks[worker] = task
        await asyncio.sleep(START_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill(len(self.workers))

    async def _start_later(self, worker: SimulatedWorker) -> None:
        await asyncio.sleep(self._random.uniform(0, START_SECONDS / 2))
        await worker.run()

    @property
    def now(self) -> float:
        """The virtual time."""
        return asyncio.get_running_loop().time()

    async def submit(self, tenant: str) -> Record:
        """Submits one job in a random partition, and returns its record."""
        tokens = 1 + round(self._random.expovariate(1 / MEAN_TOKENS))
        partition = self._random.randrange(self._size.partitions)
        params = {"input": "Why is the sky blue?", "model": "bench"}
        job = Job(new_response_id(partition), tenant, 1_700_000_000, params)
        record = self.book[job.id] = Record(tenant, tokens, self.now)
        await submit(self._queue, job)
        return record

    async def submit_all(self, tenant: str, jobs: int) -> list[Record]:
        """Submits many jobs of a tenant as fast as Redis accepts them."""
        return list(await asyncio.gather(*(self.submit(tenant) for _ in range(jobs))))

    async def until(self, happened: Callable[[], bool], seconds: float) -> None:
        """Waits until `happened()` is true. Raises: TimeoutError."""
        async with asyncio.timeout(seconds):
            while not happened():  # noqa: ASYNC110 - there is no single event to wait for
                await asyncio.sleep(0.5)

    async def kill(self, count: int) -> list[Record]:
        """Kills workers at once, and returns the records of the jobs that they were running."""
        dead, self.workers = self.workers[:count], self.workers[count:]
        lost = [self.book[id_] for worker in dead for id_ in worker.held]
        await asyncio.gather(*(worker.die(self._tasks.pop(worker)) for worker in dead))
        return lost

    def calls(self) -> Counter[str]:
        """Returns the calls of all living workers, by the name of the script or command."""
        return sum((worker.pipe.calls for worker in self.workers), Counter())

    def messages(self) -> int:
        """Returns the number of wake-ups that living workers have received."""
        return sum(worker.subscriber.messages for worker in self.workers)

    def empty(self) -> int:
        """Returns the number of claims of living workers that found no job."""
        return sum(worker.empty for worker in self.workers)


async def simulate(size: Size, tell: Callable[[str], None]) -> Report:
    """Runs all phases. Raises: TimeoutError if jobs do not end in time."""
    began, report = time.monotonic(), Report()
    async with virtual_redis() as redis, Fleet(redis, size) as fleet:
        tell("idle")
        idle = await _idle(fleet, report)
        tell("trickle")
        await _trickle(fleet, size, report, idle)
        tell("backlog")
        redis.tick_seconds = LONG_TICK_SECONDS
        await _backlog(fleet, size, report, tell)
        for record in fleet.book.values():
            report.finished += bool(record.ended)
            report.lost += not record.ended
            report.repeated += len(record.ended) > 1
        for number in range(size.partitions):
            names = Partition(number)
            for key in (names.leases, names.open):
                report.left += redis.now("ZCARD", key)
        report.seconds = fleet.now
    report.machine_seconds = time.monotonic() - began
    return report


async def _idle(fleet: Fleet, report: Report) -> Counter[str]:
    """Measures an idle fleet. Returns the commands of one virtual second."""
    calls, commands = fleet.calls(), fleet.redis.commands()
    await asyncio.sleep(IDLE_SECONDS)
    spent = fleet.redis.commands() - commands
    per_worker = IDLE_SECONDS * len(fleet.workers)
    report.idle_commands = spent.total() / per_worker
    for name, count in (fleet.calls() - calls).items():
        report.idle_calls[name] = round(count / per_worker, 2)
    return Counter({name: count // IDLE_SECONDS for name, count in spent.items()})


async def _trickle(fleet: Fleet, size: Size, report: Report, idle: Counter[str]) -> None:
    """Submits jobs one by one to an idle fleet."""
    messages, empty, claims = fleet.messages(), fleet.empty(), fleet.calls()["claim"]
    commands, began = fleet.redis.commands(), fleet.now
    records = []
    for _ in range(TRICKLE_JOBS):
        records.append(await fleet.submit("trickle"))
        await asyncio.sleep(max(2 * size.seconds_per_job, MIN_TRICKLE_SECONDS))
    await fleet.until(lambda: all(record.ended for record in records), 600)
    spent = fleet.redis.commands().total() - commands.total()
    jobs = len(records)
    report.trickle_jobs = jobs
    report.wake_ups = (fleet.messages() - messages) / jobs
    report.claims = (fleet.calls()["claim"] - claims) / jobs
    report.empty_claims = (fleet.empty() - empty) / jobs
    report.commands = (spent - idle.total() * (fleet.now - began)) / jobs
    report.trickle_waits = [record.began[0] - record.submitted for record in records]


async def _backlog(fleet: Fleet, size: Size, report: Report, tell: Callable[[str], None]) -> None:
    """Submits the backlog, kills workers, and waits until all jobs have ended."""
    began = fleet.now
    tenants = [PREFERRED, *(f"tenant-{number}" for number in range(1, TENANTS - 1))]
    bulk = await fleet.submit_all("bulk", size.jobs // 2)
    part = size.jobs // 2 // sum(WEIGHTS.get(name, 1) for name in tenants)
    others = [await fleet.submit_all(name, part * WEIGHTS.get(name, 1)) for name in tenants]
    records = [*bulk, *(record for some in others for record in some)]
    all_submitted = fleet.now
    # A quarter of the tenant's share, so that its jobs wait for a slot only, not for its own jobs.
    interval = 4 * (len(tenants) + 1 + sum(WEIGHTS.values())) * size.seconds_per_job
    single = asyncio.create_task(_one_at_a_time(fleet, bulk, interval), name="single")
    await fleet.until(lambda: _begun(records) > len(records) / 2, 36_000)
    tell("deaths")
    died = fleet.now
    lost = await fleet.kill(size.workers // 10)
    report.died = size.workers // 10
    await fleet.until(lambda: all(record.ended for record in records), 36_000)
    tell("end")
    singles = await single
    report.requeued = [
        at - died
        for worker in fleet.workers
        for at, jobs in worker.pipe.requeued
        for _ in range(jobs)
    ]
    report.restarts = [record.began[1] - died for record in lost if len(record.began) > 1]
    # Each tenant has waiting jobs at least until this time.
    fair_until = min(max(one.began[0] for one in some) for some in [bulk, *others])
    for name, some in zip(["bulk", *tenants, "single"], [bulk, *others, singles], strict=True):
        report.waits[name] = [record.began[0] - record.submitted for record in some]
        if name != "single":
            tokens = sum(one.tokens for one in some if all_submitted <= one.began[0] < fair_until)
            report.shares[name] = tokens / WEIGHTS.get(name, 1)
    report.seconds = fleet.now - began


def _begun(records: list[Record]) -> int:
    return sum(bool(record.began) for record in records)


async def _one_at_a_time(fleet: Fleet, bulk: list[Record], seconds: float) -> list[Record]:
    """Submits a job every `seconds` until the last job of the backlog has begun.

    That is one of the last jobs of `bulk`.
    """
    singles: list[Record] = []
    while not all(record.began for record in reversed(bulk)):
        singles.append(await fleet.submit("single"))
        await asyncio.sleep(seconds)
    await fleet.until(lambda: all(record.ended for record in singles), 36_000)
    return singles


def percentiles(values: list[float]) -> tuple[float, float, float]:
    """Returns p50, p99 and the maximum."""
    cuts = quantiles(values, n=100, method="inclusive") if len(values) > 1 else values * 100
    return cuts[49], cuts[98], max(values)
