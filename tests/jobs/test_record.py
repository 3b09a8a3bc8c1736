"""Compares the table of status transitions with the scripts that implement it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from jobs.errors import HoldlineError
from jobs.log.log import LogWriter
from jobs.queue import Queue
from jobs.record import Job, SharedSettings, Status
from jobs.redis.pipe import Pipe
from tests.jobs.factories import (
    NAMES,
    SETTINGS,
    a_job,
    end_entry,
    ending,
    new_claim,
    opening,
    run_out,
    status_of,
    submitted,
)

# The same table as in the docstring of `jobs.record`.
TRANSITIONS: dict[str, dict[Status | None, tuple[Status, ...]]] = {
    "submit": {None: (Status.QUEUED,)},
    "submit_completed": {None: (Status.COMPLETED,)},
    "claim": {Status.QUEUED: (Status.RUNNING,)},
    "retry": {Status.RUNNING: (Status.QUEUED,)},
    "give_back": {Status.RUNNING: (Status.QUEUED,)},
    "rescue": {Status.RUNNING: (Status.QUEUED,)},
    "finish": {
        Status.RUNNING: (
            Status.COMPLETED,
            Status.INCOMPLETE,
            Status.FAILED,
            Status.CANCELLED,
        )
    },
    "cancel": {Status.QUEUED: (Status.CANCELLED,)},
}


ENDS = [status for status in Status if status.ended]


async def brought_to(pipe: Pipe, queue: Queue, status: Status | None) -> tuple[Job, str]:
    """Returns a job in the given state, and its current or last claim."""
    claim = new_claim()
    if status is None:
        return a_job(), claim
    job = await submitted(queue)
    if status is not Status.QUEUED:
        await queue.leases.claim(0, claim, 1)
    if status.ended:
        writer = LogWriter(pipe, job.id, claim, 2)
        await writer.finish(status, [end_entry(job, status)], retention_ms=60_000)
    assert status == await status_of(pipe, job.id)
    return job, claim


async def submit(pipe: Pipe, queue: Queue, job: Job, claim: str) -> None:
    await queue.submit(job, opening(job))


async def submit_completed(pipe: Pipe, queue: Queue, job: Job, claim: str) -> None:
    await queue.submit_completed(job, [ending(job)])


async def seen(pipe: Pipe, queue: Queue, job: Job, claim: str) -> None:
    await queue.seen(job.id, 1000)


async def claim_(pipe: Pipe, queue: Queue, job: Job, claim: str) -> None:
    await queue.leases.claim(0, new_claim(), 1)


async def retry(pipe: Pipe, queue: Queue, job: Job, claim: str) -> None:
    await queue.leases.retry(job.id, claim, 1000, "busy")


async def give_back(pipe: Pipe, queue: Queue, job: Job, claim: str) -> None:
    await queue.leases.give_back(job.id, claim, "stopping")


async def rescue(pipe: Pipe, queue: Queue, job: Job, claim: str) -> None:
    await run_out(pipe, job.id)
    await queue.leases.rescue(0, new_claim())


async def cancel(pipe: Pipe, queue: Queue, job: Job, claim: str) -> None:
    await queue.cancel(job.id, 2, [ending(job, Status.CANCELLED)])


async def extend(pipe: Pipe, queue: Queue, job: Job, claim: str) -> None:
    await queue.leases.extend(0, [(job.id, claim)])


async def append(pipe: Pipe, queue: Queue, job: Job, claim: str) -> None:
    length = await pipe.call("LLEN", NAMES.log(job.id))
    await LogWriter(pipe, job.id, claim, length).append([b"\x92\xa1x\x80"])


def finish(end: Status) -> Callable[[Pipe, Queue, Job, str], Awaitable[None]]:
    async def finish_as(pipe: Pipe, queue: Queue, job: Job, claim: str) -> None:
        length = await pipe.call("LLEN", NAMES.log(job.id))
        writer = LogWriter(pipe, job.id, claim, length)
        await writer.finish(end, [end_entry(job, end)], retention_ms=60_000)

    return finish_as


Step = Callable[[Pipe, Queue, Job, str], Awaitable[None]]
SCRIPTS: dict[str, list[Step]] = {
    "submit": [submit],
    "submit_completed": [submit_completed],
    "seen": [seen],
    "claim": [claim_],
    "retry": [retry],
    "give_back": [give_back],
    "rescue": [rescue],
    "cancel": [cancel],
    "extend": [extend],
    "append": [append],
    "finish": [finish(end) for end in ENDS],
}


@pytest.mark.parametrize("status", [None, *Status])
@pytest.mark.parametrize("script", sorted(SCRIPTS))
async def test_scripts_follow_the_table_of_transitions(
    pipe: Pipe, script: str, status: Status | None
) -> None:
    queue = Queue(pipe, SETTINGS)
    reached = []
    for do in SCRIPTS[script]:
        job, claim = await brought_to(pipe, queue, status)
        with suppress(HoldlineError):
            await do(pipe, queue, job, claim)
        after = await status_of(pipe, job.id)
        if after != status:
            reached.append(after)
        await pipe.call("FLUSHALL")

    assert [*TRANSITIONS.get(script, {}).get(status, ())] == reached


async def test_a_finished_job_is_never_written_again(pipe: Pipe) -> None:
    queue = Queue(pipe, SETTINGS)
    for status in ENDS:
        job, claim = await brought_to(pipe, queue, status)
        before = await pipe.call("LRANGE", NAMES.log(job.id), 0, -1)
        for ways in SCRIPTS.values():
            for do in ways:
                with suppress(HoldlineError):
                    await do(pipe, queue, job, claim)

        assert before == await pipe.call("LRANGE", NAMES.log(job.id), 0, -1)
        assert status == await status_of(pipe, job.id)


def test_final_states_have_no_transitions() -> None:
    froms = {status for table in TRANSITIONS.values() for status in table}

    assert {None, Status.QUEUED, Status.RUNNING} == froms
    assert [False, False, True, True, True, True] == [status.ended for status in Status]


def test_lost_jobs_are_searched_for_less_often_than_leases_expire() -> None:
    assert 30_000 == SharedSettings(lease_ms=15_000).inspect_ms
    assert 1_000 == SharedSettings(lease_ms=100).inspect_ms
