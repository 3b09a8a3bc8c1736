"""Tests that a job wakes one worker with room, and that a lost wake-up costs at most one poll."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from jobs.lease_store import LeaseStore
from jobs.names import Partition
from jobs.notifications import subscriber
from jobs.queue import Queue
from jobs.record import Status
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from jobs.redis.subscriber import Subscriber
from tests.jobs.factories import NAMES, SETTINGS, new_claim, submitted, until_next_ms
from tests.system import wait_until
from tests.worker.conftest import MakeHarness, Work
from worker import wakeups
from worker.fleet_share import FleetSize
from worker.wakeups import WakeUps

PARTITIONS = 16
NEVER = 1000.0


@pytest.fixture
def unpolled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakeups, "POLL_SECONDS", NEVER)


@pytest.fixture
def queue(pipe: Pipe) -> Queue:
    return Queue(pipe, SETTINGS)


@pytest.fixture
async def notifications(redis: Redis, pipe: Pipe) -> AsyncIterator[Subscriber]:
    async with subscriber(redis, pipe, range(PARTITIONS)) as notifications:
        await wait_until(lambda: pipe.connected)
        yield notifications


async def idle_worker(queue: Queue, notifications: Subscriber, partitions: int = 1) -> WakeUps:
    """Returns the wake-ups of a worker that has found no job in any partition.

    Workers that become idle later are woken later.
    """
    due = WakeUps(queue.leases, range(partitions), FleetSize())
    due.subscribe(notifications)
    for _ in range(partitions):
        assert [] == await queue.leases.claim(await due.next(), new_claim(), 1, worker=due.worker)
    await until_next_ms(queue._pipe)
    return due


@pytest.mark.usefixtures("unpolled")
async def test_a_worker_without_room_passes_its_wake_up_on(
    queue: Queue, notifications: Subscriber
) -> None:
    full = await idle_worker(queue, notifications)
    free = await idle_worker(queue, notifications)
    full.full = True
    await submitted(queue)
    assert 0 == await free.next()
    assert [0] == list(full._due), "it claims when it has room again"


@pytest.mark.usefixtures("unpolled")
async def test_a_worker_that_becomes_full_passes_on_the_wake_ups_that_it_has_not_answered(
    queue: Queue, notifications: Subscriber
) -> None:
    busy = await idle_worker(queue, notifications)
    free = await idle_worker(queue, notifications)
    await submitted(queue)
    await wait_until(lambda: busy._woken)
    assert not free._due
    busy.full = True
    busy.pass_on()
    assert 0 == await free.next()


@pytest.mark.usefixtures("unpolled")
async def test_a_worker_that_claims_no_more_jobs_is_not_woken(
    queue: Queue, notifications: Subscriber
) -> None:
    leaving = await idle_worker(queue, notifications)
    stays = await idle_worker(queue, notifications)
    leaving.unsubscribe(notifications)
    await submitted(queue)
    assert 0 == await stays.next()
    assert not leaving._due


@pytest.mark.usefixtures("unpolled")
async def test_a_lost_connection_makes_every_partition_due(
    queue: Queue, notifications: Subscriber, pipe: Pipe
) -> None:
    due = await idle_worker(queue, notifications, PARTITIONS)
    await pipe.call("CLIENT", "KILL", "TYPE", "pubsub")
    assert set(range(PARTITIONS)) == {await due.next() for _ in range(PARTITIONS)}


async def test_a_lost_wake_up_delays_a_job_by_one_round_of_polls(
    queue: Queue, notifications: Subscriber, pipe: Pipe
) -> None:
    due = await idle_worker(queue, notifications, PARTITIONS)
    rounds = PARTITIONS / wakeups.MAX_POLLED
    await pipe.call("DEL", NAMES.idle_workers)  # as if the woken worker had died
    await submitted(queue)
    asked = asyncio.get_running_loop().time()
    assert 0 == await due.next()
    assert asyncio.get_running_loop().time() - asked < 3 * rounds * wakeups.POLL_SECONDS


async def test_each_poll_asks_the_next_partitions_and_those_with_jobs(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    jobs = {3}

    async def has_work(number: int) -> bool:
        asked.append(number)
        return number in jobs

    async def polled() -> set[int]:
        asked.clear()
        await due._poll()
        due._due.clear()  # as the claims do
        assert len(asked) == len(set(asked))
        return set(asked)

    monkeypatch.setattr(queue.leases, "has_work", has_work)
    monkeypatch.setattr(queue.leases, "is_reachable", lambda _: True)
    due = WakeUps(queue.leases, range(20), FleetSize())
    due._share._next = 0
    due.watch(15)  # the worker has run one of its jobs
    assert {*range(8), 15} == await polled()
    assert {*range(8, 16), 3} == await polled(), "partition 3 has jobs, and 15 has none"
    assert {*range(16, 20), *range(4)} == await polled()
    jobs.clear()
    assert {*range(4, 12), 3} == await polled()
    assert {*range(12, 20)} == await polled()


@pytest.mark.usefixtures("unpolled")
async def test_partitions_are_claimed_in_turn_and_unreachable_ones_delay_no_others(
    queue: Queue, notifications: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    due = await idle_worker(queue, notifications, 3)
    for number in (0, 1, 2):
        due.add(number)
    assert 0 == await due.next()
    due.add(0)  # partition 0 has more jobs, but is served after the others
    assert [1, 2, 0] == [await due.next() for _ in range(3)]
    away = {1}
    monkeypatch.setattr(LeaseStore, "is_reachable", lambda _, number: number not in away)
    due.add(1)
    due.add(2)
    assert 2 == await due.next()
    away.clear()
    assert 1 == await due.next()


@pytest.mark.usefixtures("unpolled")
async def test_a_job_costs_one_claim_however_many_partitions_there_are(
    make_harness: MakeHarness, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims: list[int] = []
    claim = LeaseStore.claim

    async def counted(self: LeaseStore, partition: int, *args: object, **kwargs: object) -> object:
        claims.append(partition)
        return await claim(self, partition, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(LeaseStore, "claim", counted)
    environ = {"HOLDLINE_PARTITIONS": str(PARTITIONS), "HOLDLINE_LEASE_SECONDS": "60"}
    async with make_harness(**environ) as harness, work(harness):
        await wait_until(lambda: is_idle(harness.context.pipe))
        claims.clear()
        asked = [3, 5, 3, 0, 15, 3]
        for partition in asked:
            response_id = await harness.submit("mode=ok", partition=partition)
            assert Status.COMPLETED is (await harness.ended(response_id)).status
        assert asked == claims


async def is_idle(pipe: Pipe) -> bool:
    """Returns True if a worker waits for jobs of every partition."""
    keys = [Partition(number).idle_workers for number in range(PARTITIONS)]
    return bool(PARTITIONS == await pipe.call("EXISTS", *keys))
