"""Tests that a job loads its earlier turns when claimed and releases them when it ends."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from jobs.ids import new_response_id
from jobs.log.events import begins, submitted
from jobs.log.log import read_all
from jobs.names import Partition, partition_of
from jobs.record import Job, Status, TurnSlice
from server.api.frames import response_of
from tests.jobs.factories import ending
from worker.ending import close

if TYPE_CHECKING:
    from typing import Any

    from tests.worker.harness import Harness

EARLIER = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Red."}]}


async def a_turn(harness: Harness, item: dict[str, Any], partition: int) -> str:
    """Stores a finished response with one item, to be continued by another response."""
    job = Job(new_response_id(partition), "me", 1, {"model": "m", "input": [item]})
    await harness.context.queue.submit_completed(job, [ending(job)])
    await harness.context.queue.turns.keep(job.id, job.owner, [item])
    return job.id


async def accepted(harness: Harness, turns: list[str]) -> Job:
    """Submits a job to partition 0 that continues the given responses."""
    slices = [TurnSlice(id_, 0, 1) for id_ in turns]
    job = Job(new_response_id(0), "me", 1, {"model": "m", "input": "Which?"})
    job = replace(job, turns=slices, context_bytes=100)
    await harness.context.queue.submit(job, submitted(job), begins=begins(job))
    return job


async def messages(harness: Harness) -> list[str]:
    [call] = harness.model.calls
    return [message["content"] for message in call.body["messages"]]


@pytest.mark.parametrize("fate", ["kept", "deleted", "expired"])
async def test_an_accepted_job_is_answered_even_if_its_previous_turn_is_deleted(
    harness: Harness, fate: str
) -> None:
    queue, pipe = harness.context.queue, harness.context.pipe
    turn = await a_turn(harness, EARLIER, 1)
    names = Partition(partition_of(turn))
    job = await accepted(harness, [turn])
    if fate == "deleted":
        await queue.delete(turn)
    if fate == "expired":
        await pipe.call("DEL", names.job(turn))
        await pipe.call("DEL", names.log(turn))

    await harness.execution(await harness.claim()).run()

    assert Status.COMPLETED is (await read_all(pipe, job.id)).status
    assert ["Red.", "Which?"] == await messages(harness)
    assert (fate != "deleted") == await pipe.call("EXISTS", names.turn(turn))
    held = await pipe.call("HEXISTS", names.turn(turn), job.id)
    assert not held, "an ended job holds its turns no longer"


async def test_a_job_whose_previous_turn_is_lost_fails_without_a_model_call(
    harness: Harness,
) -> None:
    turn = await a_turn(harness, EARLIER, 1)
    job = await accepted(harness, [turn])
    # Delete the stored turn, as if the master of its shard had lost it.
    await harness.context.pipe.call("DEL", Partition(1).turn(turn))

    await harness.execution(await harness.claim()).run()

    response = response_of(await read_all(harness.context.pipe, job.id))
    assert ("failed", "context_lost") == (response["status"], response["holdline"]["error_code"])
    assert [] == harness.model.calls


async def test_previous_turns_count_towards_the_memory_budget_of_a_worker(harness: Harness) -> None:
    turn = await a_turn(harness, EARLIER, 1)
    first, second = [await accepted(harness, [turn]) for _ in range(2)]
    queue = harness.context.queue
    record = len(await harness.context.pipe.call("HGET", Partition(0).job(first.id), "job"))
    [grant] = await queue.leases.claim(0, "one", 2, max_job_bytes=record + 100)
    assert first.id == grant.response_id
    [grant] = await queue.leases.claim(0, "two", 2, max_job_bytes=record + 101)
    assert second.id == grant.response_id


async def test_a_job_that_ends_without_a_model_call_releases_its_turns(harness: Harness) -> None:
    turn = await a_turn(harness, EARLIER, 1)
    await accepted(harness, [turn])
    await harness.context.queue.delete(turn)
    await close(harness.context, await harness.claim(), "queue_timeout")
    assert 0 == await harness.context.pipe.call("EXISTS", Partition(1).turn(turn))
