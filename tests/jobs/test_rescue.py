"""Tests the rescue of jobs that lost their worker, waited too long or are not in the queue."""

from __future__ import annotations

import asyncio

import pytest

from jobs.errors import (
    Fenced,
)
from jobs.log.log import LogWriter
from jobs.queue import Queue
from jobs.record import SharedSettings, Status
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from tests.jobs.factories import (
    NAMES,
    SETTINGS,
    a_job,
    claimed,
    end_entry,
    inspect_now,
    new_claim,
    opening,
    run_out,
    status_of,
    submitted,
)
from tests.jobs.steps import claim_ids, dead, finish
from tests.keys_without_ttl import keys_without_ttl


async def test_the_job_of_a_dead_worker_is_requeued_and_counts_a_failure(
    pipe: Pipe, queue: Queue
) -> None:
    job, grant = await claimed(queue)
    await run_out(pipe, job.id)

    assert (1, []) == await queue.leases.rescue(0, new_claim())
    [again] = await queue.leases.claim(0, new_claim(), 1)
    assert (2, 1, "worker_lost") == (again.attempt, again.failures, again.reason)
    with pytest.raises(Fenced):
        await LogWriter(pipe, job.id, grant.claim, 2).append([b"x"])


async def test_two_concurrent_rescuers_requeue_a_job_once(
    pipe: Pipe, queue: Queue, redis: Redis
) -> None:
    jobs = [(await claimed(queue))[0] for _ in range(20)]
    for job in jobs:
        await run_out(pipe, job.id)
    async with Pipe(redis) as other:
        found = await asyncio.gather(
            *(
                q.leases.rescue(0, new_claim())
                for q in (queue, Queue(other, SETTINGS))
                for _ in range(2)
            )
        )

    assert 20 == sum(requeued for requeued, _ in found)
    assert sorted(job.id for job in jobs) == sorted(await claim_ids(queue, 50))


async def test_the_rescuer_is_told_to_end_a_job_that_kills_every_worker(pipe: Pipe) -> None:
    queue = Queue(pipe, SharedSettings(max_attempts=3))
    job = await submitted(queue)
    for _ in range(2):
        await claim_ids(queue)
        await run_out(pipe, job.id)
        assert (1, []) == await queue.leases.rescue(0, new_claim())
    await claim_ids(queue)
    await run_out(pipe, job.id)

    requeued, [grant] = await queue.leases.rescue(0, "rescuer")

    assert 0 == requeued
    assert (job.id, "rescuer", 3, "worker_lost") == (
        grant.response_id,
        grant.claim,
        grant.failures,
        grant.reason,
    )
    await LogWriter(pipe, job.id, "rescuer", grant.length).finish(
        Status.FAILED, [end_entry(job, Status.FAILED)], retention_ms=60_000, bury=True
    )
    assert [job.id.encode()] == await dead(pipe)
    assert Status.FAILED == await status_of(pipe, job.id)


async def test_the_job_of_a_dead_rescuer_passes_to_the_next_one(pipe: Pipe) -> None:
    queue = Queue(pipe, SharedSettings(max_attempts=1))
    job, _ = await claimed(queue)
    await run_out(pipe, job.id)
    await queue.leases.rescue(0, "first")
    await run_out(pipe, job.id)

    _, [grant] = await queue.leases.rescue(0, "second")

    assert "second" == grant.claim
    with pytest.raises(Fenced):
        await finish(pipe, job, "first", Status.FAILED)


async def test_the_rescuer_is_told_to_end_a_job_without_retries_at_the_first_death(
    pipe: Pipe, queue: Queue
) -> None:
    job = a_job()
    await queue.submit(job, opening(job), fail_on_worker_death=True)
    await claim_ids(queue)
    await run_out(pipe, job.id)

    requeued, [grant] = await queue.leases.rescue(0, new_claim())

    assert (0, "worker_lost", 1) == (requeued, grant.reason, grant.failures)


async def test_a_request_can_opt_into_another_attempt_after_a_death(
    pipe: Pipe,
) -> None:
    queue = Queue(pipe, SharedSettings(on_worker_death="fail"))
    job = a_job()
    await queue.submit(job, opening(job), fail_on_worker_death=False)
    await claim_ids(queue)
    await run_out(pipe, job.id)

    assert (1, []) == await queue.leases.rescue(0, new_claim())


async def test_the_rescuer_is_told_to_end_a_cancelled_job_of_a_dead_worker(
    pipe: Pipe, queue: Queue
) -> None:
    job, _ = await claimed(queue)
    assert not await queue.cancel(job.id, 2, [])
    await run_out(pipe, job.id)

    _, [grant] = await queue.leases.rescue(0, new_claim())

    assert ("cancelled", True) == (grant.reason, grant.cancelled)


async def test_the_rescuer_is_told_to_end_a_job_that_waited_too_long(pipe: Pipe) -> None:
    queue = Queue(pipe, SharedSettings(max_wait_ms=-1))
    job = await submitted(queue)
    await inspect_now(pipe, job.id)

    _, [grant] = await queue.leases.rescue(0, "rescuer")

    assert (job.id, "expired") == (grant.response_id, grant.reason)
    assert [] == await claim_ids(queue)


@pytest.mark.parametrize("others", [0, 1, 5])
async def test_a_job_lost_from_its_queue_is_requeued(pipe: Pipe, queue: Queue, others: int) -> None:
    lost = await submitted(queue)
    kept = [await submitted(queue) for _ in range(others)]
    assert 1 == await pipe.call("LREM", NAMES.waiting_prefix + "public", 0, lost.id)
    await inspect_now(pipe, lost.id)

    assert (1, []) == await queue.leases.rescue(0, new_claim())
    assert [lost.id, *(job.id for job in kept)] == await claim_ids(queue, 10)


async def test_a_job_lost_from_the_middle_is_requeued_once_earlier_jobs_are_gone(
    pipe: Pipe, queue: Queue
) -> None:
    jobs = [await submitted(queue) for _ in range(3)]
    await pipe.call("LREM", NAMES.waiting_prefix + "public", 0, jobs[1].id)
    await claim_ids(queue)
    await inspect_now(pipe, jobs[1].id)

    assert (1, []) == await queue.leases.rescue(0, new_claim())
    assert [jobs[1].id, jobs[2].id] == await claim_ids(queue, 10)


async def test_inspecting_a_waiting_job_does_not_queue_it_twice(pipe: Pipe, queue: Queue) -> None:
    jobs = [await submitted(queue) for _ in range(3)]
    for _ in range(3):
        for job in jobs:
            await inspect_now(pipe, job.id)
        assert (0, []) == await queue.leases.rescue(0, new_claim())

    assert 3 == await pipe.call("LLEN", NAMES.waiting_prefix + "public")


@pytest.mark.parametrize("key", [NAMES.ready, NAMES.queues, NAMES.leases, NAMES.numbers])
async def test_a_lost_queue_key_loses_no_job_and_is_recreated_with_a_ttl(
    pipe: Pipe, queue: Queue, key: str
) -> None:
    running, grant = await claimed(queue)
    waiting = [await submitted(queue) for _ in range(3)]
    await pipe.call("DEL", key)
    for job in (running, *waiting):
        await inspect_now(pipe, job.id)
    await queue.leases.rescue(0, new_claim())
    await queue.leases.extend(0, [(running.id, grant.claim)])
    await run_out(pipe, running.id)
    await queue.leases.rescue(0, new_claim())

    ids = [*await claim_ids(queue, 2), *await claim_ids(queue, 9)]

    assert sorted(job.id for job in (running, *waiting)) == sorted(ids)
    assert [] == await keys_without_ttl(pipe)


async def test_every_key_has_a_ttl_after_each_step(pipe: Pipe, queue: Queue) -> None:
    for _ in range(3):
        await submitted(queue)
    assert [] == await keys_without_ttl(pipe)
    [grant] = await queue.leases.claim(0, new_claim(), 1)
    assert [] == await keys_without_ttl(pipe)
    await queue.leases.retry(grant.response_id, grant.claim, 1000, "x")
    assert [] == await keys_without_ttl(pipe)
    [grant] = await queue.leases.claim(0, new_claim(), 1)
    await queue.leases.give_back(grant.response_id, grant.claim, "x")
    assert [] == await keys_without_ttl(pipe)
    [grant] = await queue.leases.claim(0, new_claim(), 1)
    await run_out(pipe, grant.response_id)
    await queue.leases.rescue(0, new_claim())
    assert [] == await keys_without_ttl(pipe)
