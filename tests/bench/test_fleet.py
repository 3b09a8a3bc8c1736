"""Checks fairness, wake-ups and rescues with the real workers and scripts in virtual time."""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections import Counter

import pytest

from bench.capacity import idle_commands
from bench.fleet.clock import Deadlock, VirtualLoop
from bench.fleet.command import in_virtual_time, lines, run
from bench.fleet.redis import virtual
from bench.fleet.scenario import (
    PREFERRED,
    Fleet,
    Report,
    Size,
    percentiles,
    virtual_redis,
)
from jobs.names import Partition
from jobs.record import SharedSettings
from jobs.scripts import SCRIPTS
from runtime.loop import Loop
from worker.leases import RENEWALS_PER_LEASE
from worker.wakeups import MAX_POLLED, POLL_SECONDS

SIZE = Size(workers=20, jobs=1_000, partitions=4, concurrency=3)
LEASE_SECONDS = SharedSettings().lease_ms / 1000


@pytest.fixture(scope="module")
def report() -> Report:
    return run(SIZE, lambda _: None)


@pytest.mark.timeout(300)
def test_every_job_of_a_fleet_ends_once_although_workers_die(report: Report) -> None:
    assert report.finished >= SIZE.jobs
    assert (0, 0, 0) == (report.lost, report.repeated, report.left)


@pytest.mark.timeout(300)
def test_tenants_get_tokens_in_proportion_to_their_weights(report: Report) -> None:
    """The shares differ by about a quarter, because each tenant has only about 40 answers."""
    mean = sum(report.shares.values()) / len(report.shares)
    assert all(0.5 * mean < share < 1.6 * mean for share in report.shares.values())
    # A tenant with single jobs waits for a free slot, not for the backlog of the others.
    middle = {name: percentiles(waits)[0] for name, waits in report.waits.items()}
    assert 8 * middle["single"] < min(middle["bulk"], middle[PREFERRED])
    assert middle["bulk"] == max(middle.values())


@pytest.mark.timeout(300)
def test_a_job_wakes_about_one_idle_worker(report: Report) -> None:
    """A worker whose last slot a claim has filled looks once more when it has room again."""
    assert 0.9 < report.wake_ups < 1.3
    assert report.claims < 1.6
    assert percentiles(report.trickle_waits)[1] < 0.1


@pytest.mark.timeout(300)
def test_jobs_of_dead_workers_are_queued_again_after_their_leases(report: Report) -> None:
    """A lease ends up to its whole length after the death, and then every renewal may rescue it."""
    period = LEASE_SECONDS / RENEWALS_PER_LEASE
    assert report.died == 2
    assert len(report.requeued) >= report.died
    assert max(report.requeued) < LEASE_SECONDS + period
    assert min(report.requeued) > LEASE_SECONDS - 2 * period
    assert all(seconds > LEASE_SECONDS - 2 * period for seconds in report.restarts)


@pytest.mark.heavy
@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", [1, 10])
def test_a_lost_wake_up_is_healed_within_one_round_of_polls(workers: int) -> None:
    """One idle worker asks all of n partitions within n / 8 seconds, and ten find a job sooner."""
    size = Size(workers=workers, jobs=0, partitions=32, concurrency=100)
    waits = in_virtual_time(waits_after_lost_wake_ups(size))
    seconds = math.ceil(size.partitions / MAX_POLLED) * POLL_SECONDS
    assert max(waits) < seconds + 0.1
    assert statistics.mean(waits) < (0.75 if workers == 1 else 0.25) * seconds


async def waits_after_lost_wake_ups(size: Size) -> list[float]:
    """Returns the times until jobs begin whose wake-ups reach no worker."""
    async with virtual_redis() as redis, Fleet(redis, size) as fleet:
        records = []
        for number in range(40):
            for partition in range(size.partitions):  # as if the woken workers had died
                redis.now("DEL", Partition(partition).idle_workers)
            records.append(await fleet.submit("tenant"))
            await fleet.until(lambda: all(record.ended for record in records), 600)
            await asyncio.sleep(number / 40)  # any time between two polls
        return [record.began[0] - record.submitted for record in records]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("workers", "partitions"), [(1, 32), (4, 16), (40, 4), (40, 16)])
def test_the_commands_of_idle_workers_do_not_grow_with_workers_times_partitions(
    workers: int, partitions: int
) -> None:
    """Without a fleet's common share of the checks, 40 workers would send 6,400 commands."""
    size = Size(workers=workers, jobs=0, partitions=partitions)
    limit = idle_commands(workers, partitions)
    assert 0.4 * limit < in_virtual_time(commands_of_an_idle_fleet(size)) < limit


async def commands_of_an_idle_fleet(size: Size) -> float:
    """Returns the Redis commands per second of all workers."""
    async with virtual_redis() as redis, Fleet(redis, size) as fleet:
        before = redis.commands().total()
        await asyncio.sleep(30)  # virtual seconds
        del fleet
        return (redis.commands().total() - before) / 30


def test_a_job_has_ended_if_its_worker_dies_before_it_receives_the_reply() -> None:
    in_virtual_time(death_before_the_reply())


async def death_before_the_reply() -> None:
    """Kills a worker after Redis has ended its job, in the tick before the reply arrives."""
    async with virtual_redis() as redis, Fleet(redis, Size(1, 0, 1, 1)) as fleet:
        redis.tick_seconds = tick = 0.1
        record = await fleet.submit("tenant")
        [worker] = fleet.workers
        while not worker.pipe.calls["finish"]:  # noqa: ASYNC110 - a dead process sets no event
            await asyncio.sleep(tick / 10)
        await asyncio.sleep((math.floor(fleet.now / tick) + 1.5) * tick - fleet.now)
        assert not record.ended
        await fleet.kill(1)
        await fleet.until(lambda: bool(record.ended), 60)


@pytest.mark.timeout(300)
def test_the_report_of_a_fleet_names_all_quantities(report: Report) -> None:
    text = "\n".join(lines(SIZE, report))
    for name in ("wake-ups per job", "wait in the backlog, bulk", "after the death of 2 workers"):
        assert name in text


def test_a_virtual_hour_takes_no_time() -> None:
    began = time.monotonic()
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:

        async def wait() -> float:
            await asyncio.sleep(3600)  # virtual seconds
            return asyncio.get_running_loop().time()

        assert runner.run(wait()) == pytest.approx(3600)
    assert time.monotonic() - began < 60


def test_a_wait_below_the_precision_of_the_clock_ends() -> None:
    async def wait() -> None:
        end = math.nextafter(1e6, math.inf)
        await asyncio.sleep(1e6)
        while (now := asyncio.get_running_loop().time()) < end:  # noqa: ASYNC110 - no event
            await asyncio.sleep((end - now) / 2)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(asyncio.wait_for(wait(), 2e6))


def test_a_wait_without_an_end_is_an_error() -> None:
    loop = VirtualLoop()
    try:
        never = loop.create_future()
        with pytest.raises(Deadlock):
            loop.run_until_complete(never)
    finally:
        loop.close()


def test_only_the_clock_of_the_scripts_is_replaced() -> None:
    changed = Counter(virtual(one.source) != one.source for one in SCRIPTS.values())
    assert changed[True] > 10
    assert all(b"'TIME'" not in virtual(one.source) for one in SCRIPTS.values())
    with pytest.raises(ValueError, match="reads the clock in another way"):
        virtual(b"return redis.pcall('TIME')")


def test_a_simulation_fails_if_a_loop_of_a_worker_fails() -> None:
    """Such a loop continues after an error, so the results would lack its work."""

    async def fail() -> None:
        raise AttributeError("a method is missing")

    async def some_seconds() -> None:
        async with Loop("of the test", fail, (1.0, 1.0)):
            await asyncio.sleep(3)  # virtual seconds

    with pytest.raises(RuntimeError, match="AttributeError"):
        in_virtual_time(some_seconds())
