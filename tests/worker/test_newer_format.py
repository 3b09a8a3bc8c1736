"""Tests that a worker leaves jobs of a newer format to newer workers."""

from __future__ import annotations

import msgpack  # type: ignore[import-untyped]
import pytest

from jobs.format import FORMAT
from jobs.ids import new_response_id
from jobs.log.codec import encode_job
from jobs.log.events import submitted
from jobs.record import Job, TurnSlice
from jobs.redis.pipe import Pipe
from tests.jobs.factories import NAMES, fall_due, status_of
from tests.worker.harness import Harness

NEWER = FORMAT + 1


async def asked(harness: Harness, pipe: Pipe) -> tuple[str, bytes]:
    """Submits a job of a newer format, into a queue from which this worker claims.

    Returns the id of the job, and its record in this version's format.
    """
    id_ = await harness.submit("tokens=3")
    record = await pipe.call("HGET", NAMES.job(id_), "job")
    await pipe.call("HSET", NAMES.job(id_), "job", msgpack.packb([NEWER, id_, {}]))
    return id_, record


async def test_a_job_of_a_newer_format_waits_for_a_newer_worker(
    harness: Harness, pipe: Pipe
) -> None:
    id_, record = await asked(harness, pipe)
    await harness.execution(await harness.claim()).run()
    assert [b"queued", b"request_too_new"] == await pipe.call(
        "HMGET", NAMES.job(id_), "status", "reason"
    )
    assert [] == harness.model.calls
    # A newer worker claims the job, whose record it can read.
    await pipe.call("HSET", NAMES.job(id_), "job", record)
    await fall_due(pipe, id_)
    await harness.execution(await harness.claim()).run()
    assert "completed" == await status_of(pipe, id_)
    assert 1 == len(harness.model.calls)


async def test_a_job_whose_earlier_turn_has_a_newer_format_waits_for_a_newer_worker(
    harness: Harness, pipe: Pipe
) -> None:
    earlier = await harness.submit("tokens=3")
    await harness.execution(await harness.claim()).run()
    turns = harness.context.queue.turns
    await turns.keep(earlier, "me", [])
    await pipe.call("HSET", NAMES.turn(earlier), "items", msgpack.packb([NEWER, []]))
    params = {"model": "m", "input": "tokens=3"}
    job = Job(new_response_id(0), "me", 1, params, turns=[TurnSlice(earlier, 0, 1)])
    await harness.context.queue.submit(job, submitted(job))
    await harness.execution(await harness.claim()).run()
    assert b"request_too_new" == await pipe.call("HGET", NAMES.job(job.id), "reason")


async def test_a_job_that_no_worker_can_read_fails_with_its_own_code(
    harness: Harness, pipe: Pipe
) -> None:
    id_, _ = await asked(harness, pipe)
    for _ in range(harness.context.policy.max_attempts):
        await fall_due(pipe, id_)
        await harness.execution(await harness.claim()).run()
    last = (await harness.events(id_))[-1]
    assert "request_too_new" == last["response"]["error"]["code"]
    assert [] == await harness.context.queue.dead(0)
    assert [] == harness.model.calls


async def test_a_cancel_of_a_job_of_a_newer_format_ends_it(harness: Harness, pipe: Pipe) -> None:
    id_, _ = await asked(harness, pipe)
    grant = await harness.claim()
    await harness.context.queue.cancel(id_, grant.length, [])
    await harness.execution(grant._replace(cancelled=True)).run()
    assert "cancelled" == await status_of(pipe, id_)


@pytest.mark.parametrize("attempt", [1, 2])
async def test_a_job_with_a_parameter_that_a_newer_server_has_added_is_answered(
    harness: Harness, pipe: Pipe, attempt: int
) -> None:
    id_ = await harness.submit("tokens=3 mode=500 times=1" if attempt == 2 else "tokens=3")
    found = msgpack.unpackb(await pipe.call("HGET", NAMES.job(id_), "job"))
    job = Job(id_, found[2], found[3], {**found[4], "further": {"a": [1]}})
    record = msgpack.packb([*msgpack.unpackb(encode_job(job)), {"further": 1}])
    await pipe.call("HSET", NAMES.job(id_), "job", record)
    for _ in range(attempt):
        await fall_due(pipe, id_)
        await harness.execution(await harness.claim()).run()
    assert "completed" == await status_of(pipe, id_)
