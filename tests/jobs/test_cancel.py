"""Tests cancelling and deleting a response in each of its states, on a real Redis."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from jobs.errors import (
    Diverged,
    Gone,
    NotWritable,
    UnknownResponse,
)
from jobs.ids import new_response_id
from jobs.log.log import LogWriter, read
from jobs.queue import Queue
from jobs.record import Job, Status
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from tests.jobs.factories import (
    NAMES,
    SETTINGS,
    claimed,
    ending,
    fall_due,
    inspect_now,
    new_claim,
    run_out,
    status_of,
    submitted,
)
from tests.jobs.steps import claim_ids, ends_in_log, finish


async def test_a_waiting_job_is_cancelled_at_once(pipe: Pipe, queue: Queue) -> None:
    job = await submitted(queue)

    assert await queue.cancel(job.id, 2, [ending(job, Status.CANCELLED)])

    assert Status.CANCELLED == await status_of(pipe, job.id)
    assert [2] == await ends_in_log(pipe, job.id)
    assert [] == await claim_ids(queue)


async def test_a_job_waiting_for_a_retry_is_cancelled_at_once(pipe: Pipe, queue: Queue) -> None:
    job, grant = await claimed(queue)
    await queue.leases.retry(job.id, grant.claim, 1, "busy")

    assert await queue.cancel(job.id, 2, [ending(job, Status.CANCELLED)])

    await fall_due(pipe, job.id)
    assert (0, []) == await queue.leases.rescue(0, new_claim())
    assert [] == await claim_ids(queue)


async def test_a_cancel_reaches_the_worker_of_a_running_job_on_every_channel(
    pipe: Pipe, queue: Queue
) -> None:
    job, grant = await claimed(queue)

    assert not await queue.cancel(job.id, 2, [])

    assert await LogWriter(pipe, job.id, grant.claim, 2).append([b"\x92\xa1x\x80"])
    assert ["cancel"] == await queue.leases.extend(0, [(job.id, grant.claim)])
    await queue.leases.give_back(job.id, grant.claim, "stopping")
    [again] = await queue.leases.claim(0, new_claim(), 1)
    assert again.cancelled


async def test_cancelling_a_finished_response_changes_nothing(pipe: Pipe, queue: Queue) -> None:
    job, grant = await claimed(queue)
    await finish(pipe, job, grant.claim)

    assert await queue.cancel(job.id, 2, [ending(job, Status.CANCELLED)])

    assert Status.COMPLETED == await status_of(pipe, job.id)
    assert [2] == await ends_in_log(pipe, job.id)


async def test_a_cancel_based_on_an_outdated_log_is_refused(queue: Queue) -> None:
    job = await submitted(queue)

    with pytest.raises(Diverged) as refused:
        await queue.cancel(job.id, 1, [ending(job, Status.CANCELLED)])

    assert (1, 2) == (refused.value.expected, refused.value.found)


async def test_a_cancel_of_an_unknown_response_is_refused(queue: Queue) -> None:
    with pytest.raises(UnknownResponse):
        await queue.cancel(new_response_id(0), 0, [])


@pytest.mark.parametrize("state", ["queued", "running", "delayed", "given back", "lease over"])
async def test_a_cancel_that_races_the_end_leaves_exactly_one_terminal_event(
    pipe: Pipe, queue: Queue, redis: Redis, state: str
) -> None:
    async with Pipe(redis) as other:
        for number in range(100):
            job = await submitted(queue)
            [grant] = await queue.leases.claim(0, new_claim(), 1)
            if state == "delayed":
                await queue.leases.retry(job.id, grant.claim, 60_000, "busy")
            elif state in ("queued", "given back"):
                await queue.leases.give_back(job.id, grant.claim, "stopping")
            elif state == "lease over":
                await run_out(pipe, job.id)

            async def end(pipe: Pipe, job: Job = job, claim: str = grant.claim) -> None:
                with suppress(NotWritable):
                    await finish(pipe, job, claim)

            async def cancel(queue: Queue, job: Job = job) -> None:
                await queue.cancel(job.id, 2, [ending(job, Status.CANCELLED)])

            async def rescue(queue: Queue, job: Job = job) -> None:
                for grant in (await queue.leases.rescue(0, new_claim()))[1]:
                    with suppress(NotWritable):
                        await finish(pipe, job, grant.claim, Status.CANCELLED)

            racers = [end(pipe), cancel(Queue(other, SETTINGS)), rescue(queue), cancel(queue)]
            await asyncio.gather(*racers[number % 4 :], *racers[: number % 4])
            for grant in await queue.leases.claim(0, new_claim(), 5):
                with suppress(NotWritable):
                    await finish(pipe, job, grant.claim, Status.CANCELLED)
            # The script only asks a running job's worker to stop. The worker must write the
            # terminal event.
            if await status_of(pipe, job.id) == "running":
                held = await pipe.call("HGET", NAMES.job(job.id), "claim")
                await finish(pipe, job, held.decode(), Status.CANCELLED)

            assert [2] == await ends_in_log(pipe, job.id)
            assert 3 == await pipe.call("LLEN", NAMES.log(job.id))


# Deleting responses


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
    assert (0, []) == await queue.leases.rescue(0, new_claim())
    assert [] == await claim_ids(queue)
    assert 0 == await pipe.call("ZCARD", NAMES.open)
    assert 0 == await pipe.call("ZCARD", NAMES.leases)
