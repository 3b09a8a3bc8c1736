"""The queue on a real Redis: each promise that one of its scripts makes."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from jobs.errors import (
    Diverged,
    Fenced,
    Gone,
    IdempotencyKeyReused,
    NotWritable,
    QueueFull,
    UnknownResponse,
)
from jobs.log.codec import decode_event, decode_job
from jobs.log.events import TERMINAL_TYPES
from jobs.log.log import LogWriter, read
from jobs.names import new_response_id
from jobs.queue import Queue
from jobs.record import Job, SharedSettings, Status
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from jobs.replies import Accepted
from tests.jobs.factories import (
    NAMES,
    SETTINGS,
    a_job,
    claimed,
    end_entry,
    ending,
    fall_due,
    inspect_now,
    new_claim,
    opening,
    run_out,
    status_of,
    submitted,
)
from tests.keys_without_ttl import keys_without_ttl


@pytest.fixture
def queue(pipe: Pipe) -> Queue:
    return Queue(pipe, SETTINGS)


async def submit(queue: Queue, job: Job, key: str | None = None, body: str = "body") -> Accepted:
    return await queue.submit(job, opening(job), idempotency_key=key, fingerprint=body)


async def claim_ids(queue: Queue, count: int = 1, claim: str | None = None) -> list[str]:
    return [grant.response_id for grant in await queue.claim(0, claim or new_claim(), count)]


async def finish(pipe: Pipe, job: Job, claim: str, status: Status = Status.COMPLETED) -> None:
    length = await pipe.call("LLEN", NAMES.log(job.id))
    writer = LogWriter(pipe, job.id, claim, length)
    await writer.finish(status, [end_entry(job, status)], retention_ms=60_000)


async def ends_in_log(pipe: Pipe, response_id: str) -> list[int]:
    """Where in the log the terminal events are."""
    view = await read(pipe, response_id, 0)
    kinds = [decode_event(entry)["type"] for entry in view.entries]
    return [index for index, kind in enumerate(kinds) if kind in TERMINAL_TYPES]


async def dead(pipe: Pipe) -> list[bytes]:
    found: list[bytes] = await pipe.call("LRANGE", NAMES.dead, 0, -1)
    return found


# Submit.


async def test_a_submitted_job_waits_with_its_first_events(pipe: Pipe, queue: Queue) -> None:
    job = a_job()

    accepted = await submit(queue, job)
    view = await read(pipe, job.id, 0)

    assert Accepted(job.id, 1, fresh=True) == accepted
    assert (Status.QUEUED, "public", 0, 2) == (view.status, view.owner, view.attempt, view.length)
    assert opening(job) == [decode_event(entry) for entry in view.entries]


async def test_a_key_used_again_leads_to_the_same_response(queue: Queue) -> None:
    first, second = a_job(), a_job()
    await submit(queue, first, "key")

    assert Accepted(first.id, 0, fresh=False) == await submit(queue, second, "key")
    assert [first.id] == await claim_ids(queue, 5)


async def test_a_key_used_by_fifty_at_once_makes_one_response(queue: Queue, redis: Redis) -> None:
    async with Pipe(redis) as other:
        queues = [queue, Queue(other, SETTINGS)]
        accepted = await asyncio.gather(
            *(submit(queues[number % 2], a_job(), "key") for number in range(50))
        )

    assert 1 == len({each.response_id for each in accepted})
    assert 1 == sum(each.fresh for each in accepted)
    assert 1 == len(await claim_ids(queue, 50))


async def test_a_key_used_with_another_body_is_refused(queue: Queue) -> None:
    first = a_job()
    await submit(queue, first, "key", "one")

    with pytest.raises(IdempotencyKeyReused) as refused:
        await submit(queue, a_job(), "key", "other")

    assert first.id == refused.value.response_id


async def test_a_key_of_another_owner_is_another_key(queue: Queue) -> None:
    assert (await submit(queue, a_job("a"), "key")).fresh
    assert (await submit(queue, a_job("b"), "key")).fresh


async def test_a_key_of_a_deleted_response_can_be_used_again(queue: Queue) -> None:
    first = a_job()
    await submit(queue, first, "key", "one")
    await queue.delete(first.id)

    assert (await submit(queue, a_job(), "key", "other")).fresh


async def test_without_a_key_the_same_body_is_another_response(queue: Queue) -> None:
    await submit(queue, a_job())
    await submit(queue, a_job())

    assert 2 == len(await claim_ids(queue, 5))


async def test_a_full_queue_refuses_and_says_how_full_it_is(pipe: Pipe) -> None:
    queue = Queue(pipe, SharedSettings(max_waiting=3))
    jobs = [await submitted(queue) for _ in range(3)]

    with pytest.raises(QueueFull) as refused:
        await submitted(queue)

    assert (3, 3) == (refused.value.waiting, refused.value.limit)
    assert [job.id for job in jobs] == await claim_ids(queue, 10)


async def test_what_runs_does_not_fill_the_queue(pipe: Pipe) -> None:
    queue = Queue(pipe, SharedSettings(max_waiting=1))
    for _ in range(5):
        await claimed(queue)


async def test_what_waits_for_a_retry_fills_the_queue(pipe: Pipe) -> None:
    queue = Queue(pipe, SharedSettings(max_waiting=1))
    job, grant = await claimed(queue)
    await queue.retry(job.id, grant.claim, 60_000, "busy")

    with pytest.raises(QueueFull):
        await submitted(queue)


async def test_a_key_that_is_known_is_answered_by_a_full_queue(pipe: Pipe) -> None:
    queue = Queue(pipe, SharedSettings(max_waiting=1))
    job = a_job()
    await submit(queue, job, "key")

    assert job.id == (await submit(queue, a_job(), "key")).response_id


# Claim.


async def test_jobs_of_one_owner_are_claimed_in_the_order_in_which_they_came(queue: Queue) -> None:
    jobs = [await submitted(queue) for _ in range(10)]

    assert [job.id for job in jobs] == [(await claim_ids(queue))[0] for _ in range(10)]
    assert [] == await claim_ids(queue)


async def test_an_owner_who_floods_does_not_keep_another_waiting(queue: Queue) -> None:
    for _ in range(100):
        await submitted(queue, "flood")
    await claim_ids(queue, 10)
    only = await submitted(queue, "patient")

    assert only.id in [*await claim_ids(queue), *await claim_ids(queue)]


async def test_owners_are_served_in_turn_also_within_one_claim(queue: Queue) -> None:
    for _ in range(6):
        for owner in "abc":
            await submitted(queue, owner)

    grants = await queue.claim(0, new_claim(), 9)

    assert list("abcabcabc") == [decode_job(grant.job).owner for grant in grants]


async def test_a_grant_says_what_a_worker_must_know(queue: Queue) -> None:
    job = await submitted(queue)

    [grant] = await queue.claim(0, "mine", 1)

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


async def test_the_same_token_is_handed_the_same_jobs(queue: Queue) -> None:
    for _ in range(5):
        await submitted(queue)

    first = await queue.claim(0, "mine", 2)
    again = await queue.claim(0, "mine", 2)

    assert [each.response_id for each in first] == [each.response_id for each in again]
    assert [1, 1] == [each.attempt for each in again]
    assert 3 == len(await claim_ids(queue, 9))


async def test_a_claim_ends_where_its_jobs_are_large_enough(queue: Queue) -> None:
    for _ in range(5):
        await submitted(queue)
    [first] = await queue.claim(0, new_claim(), 5, max_job_bytes=1)

    rest = await queue.claim(0, "mine", 5, max_job_bytes=len(first.job) + 1)

    assert 2 == len(rest)
    assert 2 == len(await queue.claim(0, new_claim(), 5))


async def test_a_repeated_claim_hands_out_nothing_that_has_ended_or_gone(
    pipe: Pipe, queue: Queue
) -> None:
    jobs = [await submitted(queue) for _ in range(5)]
    await queue.claim(0, "mine", 5)
    await finish(pipe, jobs[0], "mine")
    await queue.delete(jobs[1].id)
    await queue.retry(jobs[2].id, "mine", 1000, "busy")
    await queue.give_back(jobs[3].id, "mine", "stopping")

    assert [jobs[4].id] == await claim_ids(queue, 5, "mine")


async def test_a_job_that_stands_in_the_list_five_times_is_claimed_once(
    pipe: Pipe, queue: Queue
) -> None:
    job = await submitted(queue)
    await pipe.call("RPUSH", NAMES.waiting_prefix + "public", *[job.id] * 4)

    assert [job.id] == await claim_ids(queue, 5)
    assert [] == await claim_ids(queue, 5)


@pytest.mark.parametrize("alien", [b"\xff\x00", b"", b"{}", b"resp_x", b"job with spaces"])
async def test_an_entry_that_nobody_of_ours_wrote_is_buried_once_and_the_next_is_claimed(
    pipe: Pipe, queue: Queue, alien: bytes
) -> None:
    await pipe.call("RPUSH", NAMES.waiting_prefix + "public", alien)
    job = await submitted(queue)
    await pipe.call("PEXPIRE", NAMES.waiting_prefix + "public", 60_000)

    assert [job.id] == await claim_ids(queue)
    assert [alien] == await dead(pipe)


async def test_a_job_whose_key_is_of_another_type_is_buried(pipe: Pipe, queue: Queue) -> None:
    id_ = new_response_id(0)
    await pipe.call("SET", NAMES.job(id_), "not a hash", "PX", 60_000)
    await pipe.call("RPUSH", NAMES.waiting_prefix + "public", id_)
    job = await submitted(queue)

    assert [job.id] == await claim_ids(queue)
    assert [id_.encode()] == await dead(pipe)


async def test_a_list_full_of_aliens_does_not_stop_another_owner(pipe: Pipe, queue: Queue) -> None:
    await submitted(queue, "broken")
    await pipe.call("LPUSH", NAMES.waiting_prefix + "broken", *["alien"] * 500)
    job = await submitted(queue, "sane")

    assert job.id in [*await claim_ids(queue, 1), *await claim_ids(queue, 1)]


async def test_the_list_of_the_dead_is_bounded(pipe: Pipe, queue: Queue) -> None:
    await submitted(queue)
    await pipe.call("LPUSH", NAMES.waiting_prefix + "public", *["alien"] * 1500)
    while await pipe.call("LLEN", NAMES.waiting_prefix + "public"):
        await claim_ids(queue)

    assert 1000 == len(await dead(pipe))


async def test_two_claims_at_once_never_share_a_job(queue: Queue, redis: Redis) -> None:
    for _ in range(60):
        await submitted(queue)
    async with Pipe(redis) as other:
        queues = [queue, Queue(other, SETTINGS)]
        batches = await asyncio.gather(*(claim_ids(queues[n % 2], 3) for n in range(30)))
    ids = [id_ for batch in batches for id_ in batch]

    assert 60 == len(ids) == len(set(ids))


async def test_idle_workers_are_woken_by_markers_that_are_few(pipe: Pipe, queue: Queue) -> None:
    for _ in range(200):
        await submitted(queue)

    assert 64 == await pipe.call("LLEN", NAMES.wake)


# Extend.


async def test_extend_says_of_each_whether_it_is_held_lost_or_to_be_cancelled(
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

    assert ["held", "cancel", "lost", "lost"] == await queue.extend(0, held)
    assert ["lost"] == await queue.extend(0, [(kept.id, "another claim")])
    assert [] == await queue.extend(0, [])


async def test_an_extended_lease_lasts_longer_and_never_moves_back(
    pipe: Pipe, queue: Queue
) -> None:
    job, grant = await claimed(queue)
    await pipe.call("ZADD", NAMES.leases, 9_000_000_000_000, job.id)
    await queue.extend(0, [(job.id, grant.claim)])

    assert b"9000000000000" == await pipe.call("ZSCORE", NAMES.leases, job.id)

    await run_out(pipe, job.id)
    assert ["held"] == await queue.extend(0, [(job.id, grant.claim)])
    assert (0, []) == await queue.rescue(0, new_claim())


# Retry and give back.


async def test_a_retry_waits_out_its_delay_and_is_counted(pipe: Pipe, queue: Queue) -> None:
    job, grant = await claimed(queue)
    await queue.retry(job.id, grant.claim, 60_000, "provider_busy")

    assert [] == await claim_ids(queue)
    assert (0, []) == await queue.rescue(0, new_claim())

    await fall_due(pipe, job.id)
    assert (1, []) == await queue.rescue(0, new_claim())
    [again] = await queue.claim(0, new_claim(), 1)

    assert (job.id, 2, 1, "provider_busy") == (
        again.response_id,
        again.attempt,
        again.failures,
        again.reason,
    )


async def test_a_job_that_is_given_back_is_the_next_one_and_has_no_strike(queue: Queue) -> None:
    first, grant = await claimed(queue)
    second = await submitted(queue)
    await queue.give_back(first.id, grant.claim, "worker_stopping")

    grants = await queue.claim(0, new_claim(), 2)

    assert [first.id, second.id] == [each.response_id for each in grants]
    assert (2, 0, "worker_stopping") == (grants[0].attempt, grants[0].failures, grants[0].reason)


async def test_jobs_that_are_given_back_come_before_all_who_wait(pipe: Pipe, queue: Queue) -> None:
    jobs = [await submitted(queue) for _ in range(6)]
    await queue.claim(0, "mine", 3)
    for job in reversed(jobs[:3]):
        await queue.give_back(job.id, "mine", "stopping")
    numbers = [(await read(pipe, job.id, 0, max_entries=0)).number for job in jobs]

    assert [1, 2, 3, 4, 5, 6] == numbers
    assert [job.id for job in jobs] == await claim_ids(queue, 6)


@pytest.mark.parametrize("way", ["retry", "give_back"])
async def test_only_the_holder_can_put_a_job_back_and_repeating_it_is_harmless(
    pipe: Pipe, queue: Queue, way: str
) -> None:
    async def put_back(id_: str, claim: str) -> None:
        if way == "retry":
            await queue.retry(id_, claim, 60_000, "x")
        else:
            await queue.give_back(id_, claim, "x")

    job, grant = await claimed(queue)
    with pytest.raises(Fenced):
        await put_back(job.id, "another claim")
    await put_back(job.id, grant.claim)
    await put_back(job.id, grant.claim)
    with pytest.raises(Gone):
        await put_back(new_response_id(0), grant.claim)
    await fall_due(pipe, job.id)
    await queue.rescue(0, new_claim())

    assert [job.id] == await claim_ids(queue, 5)
    with pytest.raises(Fenced):
        await put_back(job.id, "another claim")


# Rescue.


async def test_the_job_of_a_dead_worker_waits_again_with_a_strike(pipe: Pipe, queue: Queue) -> None:
    job, grant = await claimed(queue)
    await run_out(pipe, job.id)

    assert (1, []) == await queue.rescue(0, new_claim())
    [again] = await queue.claim(0, new_claim(), 1)
    assert (2, 1, "worker_lost") == (again.attempt, again.failures, again.reason)
    with pytest.raises(Fenced):
        await LogWriter(pipe, job.id, grant.claim, 2).append([b"x"])


async def test_two_rescuers_at_once_put_a_job_back_once(
    pipe: Pipe, queue: Queue, redis: Redis
) -> None:
    jobs = [(await claimed(queue))[0] for _ in range(20)]
    for job in jobs:
        await run_out(pipe, job.id)
    async with Pipe(redis) as other:
        found = await asyncio.gather(
            *(q.rescue(0, new_claim()) for q in (queue, Queue(other, SETTINGS)) for _ in range(2))
        )

    assert 20 == sum(requeued for requeued, _ in found)
    assert sorted(job.id for job in jobs) == sorted(await claim_ids(queue, 50))


async def test_a_job_that_kills_every_worker_is_handed_to_the_rescuer_to_end(pipe: Pipe) -> None:
    queue = Queue(pipe, SharedSettings(max_attempts=3))
    job = await submitted(queue)
    for _ in range(2):
        await claim_ids(queue)
        await run_out(pipe, job.id)
        assert (1, []) == await queue.rescue(0, new_claim())
    await claim_ids(queue)
    await run_out(pipe, job.id)

    requeued, [grant] = await queue.rescue(0, "rescuer")

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


async def test_a_rescuer_that_dies_leaves_its_job_to_the_next_one(pipe: Pipe) -> None:
    queue = Queue(pipe, SharedSettings(max_attempts=1))
    job, _ = await claimed(queue)
    await run_out(pipe, job.id)
    await queue.rescue(0, "first")
    await run_out(pipe, job.id)

    _, [grant] = await queue.rescue(0, "second")

    assert "second" == grant.claim
    with pytest.raises(Fenced):
        await finish(pipe, job, "first", Status.FAILED)


async def test_a_job_that_shall_not_be_tried_again_is_handed_over_at_the_first_death(
    pipe: Pipe, queue: Queue
) -> None:
    job = a_job()
    await queue.submit(job, opening(job), fail_on_worker_death=True)
    await claim_ids(queue)
    await run_out(pipe, job.id)

    requeued, [grant] = await queue.rescue(0, new_claim())

    assert (0, "worker_lost", 1) == (requeued, grant.reason, grant.failures)


async def test_a_request_may_ask_for_another_attempt_where_the_default_is_to_fail(
    pipe: Pipe,
) -> None:
    queue = Queue(pipe, SharedSettings(fail_on_worker_death=True))
    job = a_job()
    await queue.submit(job, opening(job), fail_on_worker_death=False)
    await claim_ids(queue)
    await run_out(pipe, job.id)

    assert (1, []) == await queue.rescue(0, new_claim())


async def test_a_dead_workers_job_that_was_to_be_cancelled_is_handed_over_to_be_ended(
    pipe: Pipe, queue: Queue
) -> None:
    job, _ = await claimed(queue)
    assert not await queue.cancel(job.id, 2, [])
    await run_out(pipe, job.id)

    _, [grant] = await queue.rescue(0, new_claim())

    assert ("cancelled", True) == (grant.reason, grant.cancelled)


async def test_a_job_that_waited_for_too_long_is_handed_over_to_be_ended(pipe: Pipe) -> None:
    queue = Queue(pipe, SharedSettings(max_wait_ms=-1))
    job = await submitted(queue)
    await inspect_now(pipe, job.id)

    _, [grant] = await queue.rescue(0, "rescuer")

    assert (job.id, "expired") == (grant.response_id, grant.reason)
    assert [] == await claim_ids(queue)


@pytest.mark.parametrize("others", [0, 1, 5])
async def test_a_job_that_fell_out_of_the_list_is_found_again(
    pipe: Pipe, queue: Queue, others: int
) -> None:
    lost = await submitted(queue)
    kept = [await submitted(queue) for _ in range(others)]
    assert 1 == await pipe.call("LREM", NAMES.waiting_prefix + "public", 0, lost.id)
    await inspect_now(pipe, lost.id)

    assert (1, []) == await queue.rescue(0, new_claim())
    assert [lost.id, *(job.id for job in kept)] == await claim_ids(queue, 10)


async def test_a_job_lost_from_the_middle_is_found_once_those_before_it_are_gone(
    pipe: Pipe, queue: Queue
) -> None:
    jobs = [await submitted(queue) for _ in range(3)]
    await pipe.call("LREM", NAMES.waiting_prefix + "public", 0, jobs[1].id)
    await claim_ids(queue)
    await inspect_now(pipe, jobs[1].id)

    assert (1, []) == await queue.rescue(0, new_claim())
    assert [jobs[1].id, jobs[2].id] == await claim_ids(queue, 10)


async def test_a_job_that_waits_is_not_queued_twice_by_being_inspected(
    pipe: Pipe, queue: Queue
) -> None:
    jobs = [await submitted(queue) for _ in range(3)]
    for _ in range(3):
        for job in jobs:
            await inspect_now(pipe, job.id)
        assert (0, []) == await queue.rescue(0, new_claim())

    assert 3 == await pipe.call("LLEN", NAMES.waiting_prefix + "public")


@pytest.mark.parametrize(
    "key", [NAMES.ready, NAMES.queues, NAMES.leases, NAMES.wake, NAMES.numbers]
)
async def test_a_lost_key_of_the_queue_loses_no_job_and_comes_back_with_a_ttl(
    pipe: Pipe, queue: Queue, key: str
) -> None:
    running, grant = await claimed(queue)
    waiting = [await submitted(queue) for _ in range(3)]
    await pipe.call("DEL", key)
    for job in (running, *waiting):
        await inspect_now(pipe, job.id)
    await queue.rescue(0, new_claim())
    await queue.extend(0, [(running.id, grant.claim)])
    await run_out(pipe, running.id)
    await queue.rescue(0, new_claim())

    ids = [*await claim_ids(queue, 2), *await claim_ids(queue, 9)]

    assert sorted(job.id for job in (running, *waiting)) == sorted(ids)
    assert [] == await keys_without_ttl(pipe)


async def test_every_key_has_a_ttl_after_each_step(pipe: Pipe, queue: Queue) -> None:
    for _ in range(3):
        await submitted(queue)
    assert [] == await keys_without_ttl(pipe)
    [grant] = await queue.claim(0, new_claim(), 1)
    assert [] == await keys_without_ttl(pipe)
    await queue.retry(grant.response_id, grant.claim, 1000, "x")
    assert [] == await keys_without_ttl(pipe)
    [grant] = await queue.claim(0, new_claim(), 1)
    await queue.give_back(grant.response_id, grant.claim, "x")
    assert [] == await keys_without_ttl(pipe)
    [grant] = await queue.claim(0, new_claim(), 1)
    await run_out(pipe, grant.response_id)
    await queue.rescue(0, new_claim())
    assert [] == await keys_without_ttl(pipe)


# Cancel.


async def test_a_waiting_job_is_cancelled_at_once(pipe: Pipe, queue: Queue) -> None:
    job = await submitted(queue)

    assert await queue.cancel(job.id, 2, [ending(job, Status.CANCELLED)])

    assert Status.CANCELLED == await status_of(pipe, job.id)
    assert [2] == await ends_in_log(pipe, job.id)
    assert [] == await claim_ids(queue)


async def test_a_job_that_waits_for_a_retry_is_cancelled_at_once(pipe: Pipe, queue: Queue) -> None:
    job, grant = await claimed(queue)
    await queue.retry(job.id, grant.claim, 1, "busy")

    assert await queue.cancel(job.id, 2, [ending(job, Status.CANCELLED)])

    await fall_due(pipe, job.id)
    assert (0, []) == await queue.rescue(0, new_claim())
    assert [] == await claim_ids(queue)


async def test_the_worker_of_a_running_job_is_asked_by_each_way_it_listens(
    pipe: Pipe, queue: Queue
) -> None:
    job, grant = await claimed(queue)

    assert not await queue.cancel(job.id, 2, [])

    assert await LogWriter(pipe, job.id, grant.claim, 2).append([b"\x92\xa1x\x80"])
    assert ["cancel"] == await queue.extend(0, [(job.id, grant.claim)])
    await queue.give_back(job.id, grant.claim, "stopping")
    [again] = await queue.claim(0, new_claim(), 1)
    assert again.cancelled


async def test_cancelling_what_has_ended_changes_nothing(pipe: Pipe, queue: Queue) -> None:
    job, grant = await claimed(queue)
    await finish(pipe, job, grant.claim)

    assert await queue.cancel(job.id, 2, [ending(job, Status.CANCELLED)])

    assert Status.COMPLETED == await status_of(pipe, job.id)
    assert [2] == await ends_in_log(pipe, job.id)


async def test_cancelling_on_the_strength_of_an_old_log_is_refused(queue: Queue) -> None:
    job = await submitted(queue)

    with pytest.raises(Diverged) as refused:
        await queue.cancel(job.id, 1, [ending(job, Status.CANCELLED)])

    assert (1, 2) == (refused.value.expected, refused.value.found)


async def test_what_does_not_exist_cannot_be_cancelled(queue: Queue) -> None:
    with pytest.raises(UnknownResponse):
        await queue.cancel(new_response_id(0), 0, [])


@pytest.mark.parametrize("state", ["queued", "running", "delayed", "given back", "lease over"])
async def test_a_cancel_that_races_the_end_leaves_exactly_one_terminal_event(
    pipe: Pipe, queue: Queue, redis: Redis, state: str
) -> None:
    async with Pipe(redis) as other:
        for number in range(100):
            job = await submitted(queue)
            [grant] = await queue.claim(0, new_claim(), 1)
            if state == "delayed":
                await queue.retry(job.id, grant.claim, 60_000, "busy")
            elif state in ("queued", "given back"):
                await queue.give_back(job.id, grant.claim, "stopping")
            elif state == "lease over":
                await run_out(pipe, job.id)

            async def end(pipe: Pipe, job: Job = job, claim: str = grant.claim) -> None:
                with suppress(NotWritable):
                    await finish(pipe, job, claim)

            async def cancel(queue: Queue, job: Job = job) -> None:
                await queue.cancel(job.id, 2, [ending(job, Status.CANCELLED)])

            async def rescue(queue: Queue, job: Job = job) -> None:
                for grant in (await queue.rescue(0, new_claim()))[1]:
                    with suppress(NotWritable):
                        await finish(pipe, job, grant.claim, Status.CANCELLED)

            racers = [end(pipe), cancel(Queue(other, SETTINGS)), rescue(queue), cancel(queue)]
            await asyncio.gather(*racers[number % 4 :], *racers[: number % 4])
            for grant in await queue.claim(0, new_claim(), 5):
                with suppress(NotWritable):
                    await finish(pipe, job, grant.claim, Status.CANCELLED)
            if await status_of(pipe, job.id) == "running":  # asked, and its worker ends it
                held = await pipe.call("HGET", NAMES.job(job.id), "claim")
                await finish(pipe, job, held.decode(), Status.CANCELLED)

            assert [2] == await ends_in_log(pipe, job.id)
            assert 3 == await pipe.call("LLEN", NAMES.log(job.id))


# Delete.


async def test_a_deleted_response_is_gone_in_every_state(pipe: Pipe, queue: Queue) -> None:
    waiting = await submitted(queue)
    assert await queue.delete(waiting.id)
    running, grant = await claimed(queue)
    assert await queue.delete(running.id)
    ended, ended_grant = await claimed(queue)
    await finish(pipe, ended, ended_grant.claim)
    assert await queue.delete(ended.id)

    for job in (waiting, running, ended):
        with pytest.raises(UnknownResponse):
            await read(pipe, job.id, 0)
        assert not await queue.delete(job.id)
        await inspect_now(pipe, job.id)
    with pytest.raises(Gone):
        await LogWriter(pipe, running.id, grant.claim, 2).append([b"x"])
    assert (0, []) == await queue.rescue(0, new_claim())
    assert [] == await claim_ids(queue)
    assert 0 == await pipe.call("ZCARD", NAMES.open)
    assert 0 == await pipe.call("ZCARD", NAMES.leases)


# Places.


async def test_a_place_is_a_jobs_number_less_the_heads_plus_one(pipe: Pipe, queue: Queue) -> None:
    jobs = [await submitted(queue, "a") for _ in range(5)]
    await claim_ids(queue, 2)
    _, heads = await queue.queue_positions(0, [("", "a"), ("", "nobody")])
    number = (await read(pipe, jobs[4].id, 0, max_entries=0)).number

    assert {("", "a"): (3, 0, ""), ("", "nobody"): (0, 0, "")} == heads
    assert 3 == number - heads["", "a"][0] + 1


async def test_the_pace_is_known_once_jobs_have_been_claimed_while_others_waited(
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
