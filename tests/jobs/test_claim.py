"""Tests claims: their order, their leases, and queue entries that are not jobs."""

from __future__ import annotations

import asyncio

import pytest

from jobs.ids import new_response_id
from jobs.log.codec import decode_job
from jobs.notifications import subscriber
from jobs.queue import Queue
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from tests.jobs.factories import (
    NAMES,
    SETTINGS,
    a_job,
    claimed,
    new_claim,
    opening,
    submitted,
    until_next_ms,
)
from tests.jobs.steps import claim_ids, dead, finish
from tests.system import wait_until


async def test_jobs_of_one_owner_are_claimed_in_order_of_arrival(queue: Queue) -> None:
    jobs = [await submitted(queue) for _ in range(10)]

    assert [job.id for job in jobs] == [(await claim_ids(queue))[0] for _ in range(10)]
    assert [] == await claim_ids(queue)


async def test_an_owner_with_many_jobs_does_not_delay_another(queue: Queue) -> None:
    for _ in range(100):
        await submitted(queue, "flood")
    await claim_ids(queue, 10)
    only = await submitted(queue, "patient")

    assert only.id in [*await claim_ids(queue), *await claim_ids(queue)]


async def test_one_claim_takes_jobs_of_owners_in_turn(queue: Queue) -> None:
    for _ in range(6):
        for owner in "abc":
            await submitted(queue, owner)

    grants = await queue.leases.claim(0, new_claim(), 9)

    assert list("abcabcabc") == [decode_job(grant.job).owner for grant in grants]


async def test_a_grant_holds_everything_that_a_worker_needs(queue: Queue) -> None:
    job = await submitted(queue)

    [grant] = await queue.leases.claim(0, "mine", 1)

    assert job == decode_job(grant.job)
    assert ("mine", 1, 0, False, "", 2) == (
        grant.claim,
        grant.attempt,
        grant.failures,
        grant.cancelled,
        grant.reason,
        grant.length,
    )
    assert 0 <= grant.waited_ms < 10_000


async def test_a_repeated_claim_with_the_same_token_returns_the_same_jobs(queue: Queue) -> None:
    for _ in range(5):
        await submitted(queue)

    first = await queue.leases.claim(0, "mine", 2)
    again = await queue.leases.claim(0, "mine", 2)

    assert [each.response_id for each in first] == [each.response_id for each in again]
    assert [1, 1] == [each.attempt for each in again]
    assert 3 == len(await claim_ids(queue, 9))


async def test_a_claim_stops_at_its_limit_of_bytes(queue: Queue) -> None:
    for _ in range(5):
        await submitted(queue)
    [first] = await queue.leases.claim(0, new_claim(), 5, max_job_bytes=1)

    rest = await queue.leases.claim(0, "mine", 5, max_job_bytes=len(first.job) + 1)

    assert 2 == len(rest)
    assert 2 == len(await queue.leases.claim(0, new_claim(), 5))


async def test_a_repeated_claim_omits_jobs_that_ended_or_were_deleted(
    pipe: Pipe, queue: Queue
) -> None:
    jobs = [await submitted(queue) for _ in range(5)]
    await queue.leases.claim(0, "mine", 5)
    await finish(pipe, jobs[0], "mine")
    await queue.delete(jobs[1].id)
    await queue.leases.retry(jobs[2].id, "mine", 1000, "busy")
    await queue.leases.give_back(jobs[3].id, "mine", "stopping")

    assert [jobs[4].id] == await claim_ids(queue, 5, "mine")


async def test_a_job_queued_five_times_is_claimed_once(pipe: Pipe, queue: Queue) -> None:
    job = await submitted(queue)
    await pipe.call("RPUSH", NAMES.waiting_prefix + "public", *[job.id] * 4)

    assert [job.id] == await claim_ids(queue, 5)
    assert [] == await claim_ids(queue, 5)


@pytest.mark.parametrize("alien", [b"\xff\x00", b"", b"{}", b"resp_x", b"job with spaces"])
async def test_a_foreign_entry_is_moved_to_the_dead_list_and_the_next_job_is_claimed(
    pipe: Pipe, queue: Queue, alien: bytes
) -> None:
    await pipe.call("RPUSH", NAMES.waiting_prefix + "public", alien)
    job = await submitted(queue)
    await pipe.call("PEXPIRE", NAMES.waiting_prefix + "public", 60_000)

    assert [job.id] == await claim_ids(queue)
    assert [alien] == await dead(pipe)


async def test_a_job_whose_key_has_the_wrong_type_is_moved_to_the_dead_list(
    pipe: Pipe, queue: Queue
) -> None:
    id_ = new_response_id(0)
    await pipe.call("SET", NAMES.job(id_), "not a hash", "PX", 60_000)
    await pipe.call("RPUSH", NAMES.waiting_prefix + "public", id_)
    job = await submitted(queue)

    assert [job.id] == await claim_ids(queue)
    assert [id_.encode()] == await dead(pipe)


async def test_a_list_full_of_foreign_entries_does_not_block_another_owner(
    pipe: Pipe, queue: Queue
) -> None:
    await submitted(queue, "broken")
    await pipe.call("LPUSH", NAMES.waiting_prefix + "broken", *["alien"] * 500)
    job = await submitted(queue, "sane")

    assert job.id in [*await claim_ids(queue, 1), *await claim_ids(queue, 1)]


async def test_the_dead_list_is_bounded(pipe: Pipe, queue: Queue) -> None:
    await submitted(queue)
    await pipe.call("LPUSH", NAMES.waiting_prefix + "public", *["alien"] * 1500)
    while await pipe.call("LLEN", NAMES.waiting_prefix + "public"):
        await claim_ids(queue)

    assert 1000 == len(await dead(pipe))


async def test_concurrent_claims_never_share_a_job(queue: Queue, redis: Redis) -> None:
    for _ in range(60):
        await submitted(queue)
    async with Pipe(redis) as other:
        queues = [queue, Queue(other, SETTINGS)]
        batches = await asyncio.gather(*(claim_ids(queues[n % 2], 3) for n in range(30)))
    ids = [id_ for batch in batches for id_ in batch]

    assert 60 == len(ids) == len(set(ids))


async def idle_worker(queue: Queue, name: str) -> None:
    assert [] == await queue.leases.claim(0, new_claim(), 5, worker=name)


async def test_each_job_wakes_one_idle_worker_and_the_longest_idle_one_first(
    pipe: Pipe, queue: Queue, redis: Redis
) -> None:
    async with subscriber(redis, pipe, range(1)) as notifications:
        woken: list[str] = []
        confirmed: list[str] = []

        def listen(name: str) -> None:
            channel = NAMES.wake(name)
            notifications.subscribe(
                channel, lambda _: woken.append(name), lambda: confirmed.append(name)
            )

        for name in "abcd":
            listen(name)
        await wait_until(lambda: sorted(confirmed) == list("abcd"))
        for name in "cabd":
            await idle_worker(queue, name)
            await until_next_ms(pipe)
        for _ in range(3):
            await submitted(queue)
        await wait_until(lambda: len(woken) == 3)
        assert list("cab") == woken
        assert [b"d"] == await pipe.call("ZRANGE", NAMES.idle_workers, 0, -1)


async def test_a_worker_without_a_connection_is_not_woken_in_the_place_of_another(
    pipe: Pipe, queue: Queue, redis: Redis
) -> None:
    async with subscriber(redis, pipe, range(1)) as notifications:
        woken: list[bytes] = []
        confirmed = asyncio.Event()
        notifications.subscribe(NAMES.wake("live"), woken.append, confirmed.set)
        await confirmed.wait()
        for number in range(50):
            await idle_worker(queue, f"dead {number}")
        await until_next_ms(pipe)
        await idle_worker(queue, "live")
        await submitted(queue)
        await wait_until(lambda: woken)
        assert 0 == await pipe.call("EXISTS", NAMES.idle_workers)


async def test_only_a_claim_that_leaves_no_jobs_makes_a_worker_idle(
    pipe: Pipe, queue: Queue
) -> None:
    for _ in range(3):
        await submitted(queue)
    claim = new_claim()
    first = await queue.leases.claim(0, claim, 3, worker="busy")
    # The reply to a repeated claim does not say whether the first reply left more jobs.
    again = await queue.leases.claim(0, claim, 3, worker="busy")
    assert (3, True, 3, True) == (len(first), first.more, len(again), again.more)
    assert [] == await pipe.call("ZRANGE", NAMES.idle_workers, 0, -1)
    last = await queue.leases.claim(0, new_claim(), 3, worker="busy")
    assert (0, False) == (len(last), last.more)
    assert [b"busy"] == await pipe.call("ZRANGE", NAMES.idle_workers, 0, -1)


async def test_a_claim_that_empties_a_queue_leaves_nothing_to_look_for(
    pipe: Pipe, queue: Queue
) -> None:
    for _ in range(2):
        await submitted(queue)
    assert 1 == len(await claim_ids(queue, 1))
    assert await queue.leases.has_work(0)
    last = await queue.leases.claim(0, new_claim(), 2, worker="idle")
    assert (1, False) == (len(last), last.more)
    assert not await queue.leases.has_work(0)
    assert [b"idle"] == await pipe.call("ZRANGE", NAMES.idle_workers, 0, -1)
    await submitted(queue)
    assert await queue.leases.has_work(0)


async def test_a_claim_that_was_limited_by_bytes_may_be_followed_by_another(
    pipe: Pipe, queue: Queue
) -> None:
    for _ in range(2):
        await submitted(queue)
    first = await queue.leases.claim(0, new_claim(), 9, max_job_bytes=1, worker="busy")
    assert (1, True) == (len(first), first.more)
    assert [] == await pipe.call("ZRANGE", NAMES.idle_workers, 0, -1)


async def test_a_claim_reports_jobs_that_are_blocked_by_the_limit_of_their_model(
    queue: Queue,
) -> None:
    job = a_job()
    await queue.submit(job, opening(job), queue_name="d:m")
    left = await queue.leases.claim(0, new_claim(), 5, {"m": 0})
    assert ([], True, False) == (left, left.blocked, left.more)
    taken = await queue.leases.claim(0, new_claim(), 5, {"m": 5})
    assert (1, False, False) == (len(taken), taken.blocked, taken.more)


async def test_a_claim_leaves_the_jobs_of_models_that_its_worker_does_not_serve(
    queue: Queue,
) -> None:
    served, other, any_model = a_job(), a_job(), a_job()
    await queue.submit(other, opening(other), queue_name="d:other")
    await queue.submit(served, opening(served), queue_name="d:m")
    await queue.submit(any_model, opening(any_model), queue_name="")
    taken = await queue.leases.claim(0, new_claim(), 5, {"m": -1}, only_listed=True)
    assert {served.id, any_model.id} == {grant.response_id for grant in taken}
    left = await queue.leases.claim(0, new_claim(), 5, {"m": -1}, only_listed=True)
    assert ([], True, False) == (left, left.blocked, left.more)
    (taken_by_another,) = await queue.leases.claim(
        0, new_claim(), 5, {"other": -1}, only_listed=True
    )
    assert other.id == taken_by_another.response_id


async def test_only_a_new_lease_sets_the_ttl_of_the_leases(pipe: Pipe, queue: Queue) -> None:
    """A renewal adds no id. Workers renew far more often than they claim."""
    keys = (NAMES.leases, NAMES.running("public"))
    job, grant = await claimed(queue)
    for key in keys:
        await pipe.call("PEXPIRE", key, 60_000)
    assert ["held"] == await queue.leases.extend(0, [(job.id, grant.claim)])
    assert all([await pipe.call("PTTL", key) <= 60_000 for key in keys])
    await claimed(queue)
    assert all([await pipe.call("PTTL", key) > 60_000 for key in keys])
