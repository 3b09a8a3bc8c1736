"""Tests the guarantees of the queue's scripts on a real Redis."""

from __future__ import annotations

import asyncio

import pytest

from jobs.errors import (
    Fenced,
    Gone,
    IdempotencyKeyReused,
    QueueFull,
)
from jobs.ids import new_response_id
from jobs.log.codec import decode_event
from jobs.log.log import read
from jobs.queue import Queue
from jobs.record import SharedSettings, Status
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from jobs.replies import Accepted
from tests.jobs.factories import (
    NAMES,
    SETTINGS,
    a_job,
    claimed,
    fall_due,
    new_claim,
    opening,
    run_out,
    submitted,
)
from tests.jobs.steps import claim_ids, finish, submit

# Submitting jobs


async def test_a_submitted_job_waits_with_its_first_events(pipe: Pipe, queue: Queue) -> None:
    job = a_job()

    accepted = await submit(queue, job)
    view = await read(pipe, job.id, 0)

    assert Accepted(job.id, 1, fresh=True) == accepted
    assert (Status.QUEUED, "public", 0, 2) == (view.status, view.owner, view.attempt, view.length)
    assert opening(job) == [decode_event(entry) for entry in view.entries]


async def test_a_repeated_key_returns_the_same_response(queue: Queue) -> None:
    first, second = a_job(), a_job()
    await submit(queue, first, "key")

    assert Accepted(first.id, 0, fresh=False) == await submit(queue, second, "key")
    assert [first.id] == await claim_ids(queue, 5)


async def test_fifty_concurrent_submits_with_one_key_create_one_response(
    queue: Queue, redis: Redis
) -> None:
    async with Pipe(redis) as other:
        queues = [queue, Queue(other, SETTINGS)]
        accepted = await asyncio.gather(
            *(submit(queues[number % 2], a_job(), "key") for number in range(50))
        )

    assert 1 == len({each.response_id for each in accepted})
    assert 1 == sum(each.fresh for each in accepted)
    assert 1 == len(await claim_ids(queue, 50))


async def test_a_key_repeated_with_another_body_is_refused(queue: Queue) -> None:
    first = a_job()
    await submit(queue, first, "key", "one")

    with pytest.raises(IdempotencyKeyReused) as refused:
        await submit(queue, a_job(), "key", "other")

    assert first.id == refused.value.response_id


async def test_the_same_key_of_another_owner_creates_another_response(queue: Queue) -> None:
    assert (await submit(queue, a_job("a"), "key")).fresh
    assert (await submit(queue, a_job("b"), "key")).fresh


async def test_a_key_of_a_deleted_response_can_be_used_again(queue: Queue) -> None:
    first = a_job()
    await submit(queue, first, "key", "one")
    await queue.delete(first.id)

    assert (await submit(queue, a_job(), "key", "other")).fresh


async def test_the_same_body_without_a_key_creates_another_response(queue: Queue) -> None:
    await submit(queue, a_job())
    await submit(queue, a_job())

    assert 2 == len(await claim_ids(queue, 5))


async def test_a_full_queue_refuses_and_reports_its_length(pipe: Pipe) -> None:
    queue = Queue(pipe, SharedSettings(max_waiting=3))
    jobs = [await submitted(queue) for _ in range(3)]

    with pytest.raises(QueueFull) as refused:
        await submitted(queue)

    assert (3, 3) == (refused.value.waiting, refused.value.limit)
    assert [job.id for job in jobs] == await claim_ids(queue, 10)


async def test_running_jobs_do_not_count_as_waiting(pipe: Pipe) -> None:
    queue = Queue(pipe, SharedSettings(max_waiting=1))
    for _ in range(5):
        await claimed(queue)


async def test_jobs_waiting_for_a_retry_count_as_waiting(pipe: Pipe) -> None:
    queue = Queue(pipe, SharedSettings(max_waiting=1))
    job, grant = await claimed(queue)
    await queue.leases.retry(job.id, grant.claim, 60_000, "busy")

    with pytest.raises(QueueFull):
        await submitted(queue)


async def test_a_full_queue_accepts_a_repeated_key(pipe: Pipe) -> None:
    queue = Queue(pipe, SharedSettings(max_waiting=1))
    job = a_job()
    await submit(queue, job, "key")

    assert job.id == (await submit(queue, a_job(), "key")).response_id


# Extending leases


async def test_extend_reports_each_lease_as_held_lost_gone_or_to_be_cancelled(
    pipe: Pipe, queue: Queue
) -> None:
    kept, _ = await claimed(queue)
    asked, _ = await claimed(queue)
    ended, _ = await claimed(queue)
    gone, _ = await claimed(queue)
    claims = {
        job.id: (await pipe.call("HGET", NAMES.job(job.id), "claim")).decode()
        for job in (kept, asked, ended, gone)
    }
    await queue.cancel(asked.id, 2, [])
    await finish(pipe, ended, claims[ended.id])
    await queue.delete(gone.id)

    held = [(job.id, claims[job.id]) for job in (kept, asked, ended, gone)]

    assert ["held", "cancel", "lost", "gone"] == await queue.leases.extend(0, held)
    assert ["lost"] == await queue.leases.extend(0, [(kept.id, "another claim")])
    assert [] == await queue.leases.extend(0, [])


async def test_an_extended_lease_lasts_longer_and_is_never_shortened(
    pipe: Pipe, queue: Queue
) -> None:
    job, grant = await claimed(queue)
    await pipe.call("ZADD", NAMES.leases, 9_000_000_000_000, job.id)
    await queue.leases.extend(0, [(job.id, grant.claim)])

    assert b"9000000000000" == await pipe.call("ZSCORE", NAMES.leases, job.id)

    await run_out(pipe, job.id)
    assert ["held"] == await queue.leases.extend(0, [(job.id, grant.claim)])
    assert (0, []) == await queue.leases.rescue(0, new_claim())


# Retrying jobs and returning them to the queue


async def test_a_retry_waits_for_its_delay_and_is_counted(pipe: Pipe, queue: Queue) -> None:
    job, grant = await claimed(queue)
    await queue.leases.retry(job.id, grant.claim, 60_000, "provider_busy")

    assert [] == await claim_ids(queue)
    assert (0, []) == await queue.leases.rescue(0, new_claim())

    await fall_due(pipe, job.id)
    assert (1, []) == await queue.leases.rescue(0, new_claim())
    [again] = await queue.leases.claim(0, new_claim(), 1)

    assert (job.id, 2, 1, "provider_busy") == (
        again.response_id,
        again.attempt,
        again.failures,
        again.reason,
    )


async def test_a_job_given_back_is_next_and_counts_no_failure(queue: Queue) -> None:
    first, grant = await claimed(queue)
    second = await submitted(queue)
    await queue.leases.give_back(first.id, grant.claim, "worker_stopping")

    grants = await queue.leases.claim(0, new_claim(), 2)

    assert [first.id, second.id] == [each.response_id for each in grants]
    assert (2, 0, "worker_stopping") == (grants[0].attempt, grants[0].failures, grants[0].reason)


async def test_jobs_given_back_are_claimed_before_all_waiting_jobs(
    pipe: Pipe, queue: Queue
) -> None:
    jobs = [await submitted(queue) for _ in range(6)]
    await queue.leases.claim(0, "mine", 3)
    for job in reversed(jobs[:3]):
        await queue.leases.give_back(job.id, "mine", "stopping")
    numbers = [(await read(pipe, job.id, 0, max_entries=0)).number for job in jobs]

    assert [1, 2, 3, 4, 5, 6] == numbers
    assert [job.id for job in jobs] == await claim_ids(queue, 6)


@pytest.mark.parametrize("way", ["retry", "give_back"])
async def test_only_the_holder_can_put_a_job_back_and_a_repeat_changes_nothing(
    pipe: Pipe, queue: Queue, way: str
) -> None:
    async def put_back(id_: str, claim: str) -> None:
        if way == "retry":
            await queue.leases.retry(id_, claim, 60_000, "x")
        else:
            await queue.leases.give_back(id_, claim, "x")

    job, grant = await claimed(queue)
    with pytest.raises(Fenced):
        await put_back(job.id, "another claim")
    await put_back(job.id, grant.claim)
    await put_back(job.id, grant.claim)
    with pytest.raises(Gone):
        await put_back(new_response_id(0), grant.claim)
    await fall_due(pipe, job.id)
    await queue.leases.rescue(0, new_claim())

    assert [job.id] == await claim_ids(queue, 5)
    with pytest.raises(Fenced):
        await put_back(job.id, "another claim")


# Queue positions


async def test_the_queue_position_counts_from_the_head(pipe: Pipe, queue: Queue) -> None:
    jobs = [await submitted(queue, "a") for _ in range(5)]
    await claim_ids(queue, 2)
    _, heads = await queue.queue_positions(0, [("", "a"), ("", "nobody")])
    number = (await read(pipe, jobs[4].id, 0, max_entries=0)).number

    assert {("", "a"): (3, 0, ""), ("", "nobody"): (0, 0, "")} == heads
    assert 3 == number - heads["", "a"][0] + 1


async def test_the_pace_is_known_after_claims_from_a_queue_with_waiting_jobs(
    queue: Queue,
) -> None:
    assert None is (await queue.queue_positions(0, []))[0]
    for _ in range(5):
        await submitted(queue)
    for _ in range(3):
        await claim_ids(queue)

    pace, _ = await queue.queue_positions(0, [])

    assert pace is not None
    assert 0 <= pace < 10
