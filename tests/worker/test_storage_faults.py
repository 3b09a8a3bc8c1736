"""Tests a Redis that loses log entries, is full, or holds data that the worker cannot read."""

from __future__ import annotations

from jobs.log.events import RESTARTED
from jobs.names import Partition
from jobs.record import Status
from jobs.redis.pipe import Pipe
from tests.system import wait_until
from tests.worker.harness import Harness, begun, numbered, response, said


async def test_entries_of_the_attempt_that_redis_lost_are_written_again(
    harness: Harness, pipe: Pipe
) -> None:
    response_id = await harness.submit("mode=slow pace=0.01 tokens=60")
    running = await begun(harness)
    await wait_until(lambda: len(harness.model.calls[0].sent) > 60)
    seen = await harness.view(response_id)
    await pipe.call("LTRIM", Partition(0).log(response_id), 0, seen.length - 5)
    await running
    view = await harness.view(response_id)
    assert Status.COMPLETED is view.status
    assert seen.entries == view.entries[: seen.length]
    assert numbered(1, 60) == said(await harness.events(response_id))
    assert 1 == len(harness.model.calls)


async def test_the_loss_of_entries_from_before_the_attempt_leads_to_another_attempt(
    harness: Harness, pipe: Pipe
) -> None:
    response_id = await harness.submit("mode=slow pace=0.01 tokens=40")
    running = await begun(harness)
    await pipe.call("LTRIM", Partition(0).log(response_id), 0, 0)
    await running
    await wait_until(lambda: harness.model.calls[0].closed_by_client)
    await harness.execution(await harness.claim()).run()
    events = await harness.events(response_id)
    assert ["log_lost"] == [event["reason"] for event in events if event["type"] == RESTARTED]
    assert numbered(2, 40) == said(events)


async def test_a_full_redis_delays_the_answer_and_loses_nothing(
    harness: Harness, pipe: Pipe
) -> None:
    response_id = await harness.submit("mode=slow pace=0.01 tokens=30")
    running = await begun(harness)
    try:
        await pipe.call("CONFIG", "SET", "maxmemory", "1")
        await wait_until(lambda: harness.model.calls[0].sent == numbered(1, 30))
        during = (await harness.view(response_id)).length
    finally:
        await pipe.call("CONFIG", "SET", "maxmemory", "0")
    await running
    view = await harness.view(response_id)
    assert (Status.COMPLETED, True) == (view.status, during < view.length)
    assert numbered(1, 30) == said(await harness.events(response_id))
    assert 1 == len(harness.model.calls)


async def test_an_unreadable_job_goes_to_the_dead_list_and_its_response_fails(
    harness: Harness, pipe: Pipe
) -> None:
    response_id = await harness.submit("hi", temperature=0.25)
    await pipe.call("HSET", Partition(0).job(response_id), "job", b"\x93\xff garbage")
    await harness.execution(await harness.claim()).run()
    assert Status.FAILED is (await harness.view(response_id)).status
    ended = response(await harness.events(response_id))
    assert ("undecodable", "m", 0.25) == (
        ended["error"]["code"],
        ended["model"],
        ended["temperature"],
    )
    assert [response_id.encode()] == await pipe.call("LRANGE", Partition(0).dead, 0, -1)


async def test_a_response_with_an_unreadable_log_fails(harness: Harness, pipe: Pipe) -> None:
    response_id = await harness.submit("mode=500")
    await harness.execution(await harness.claim()).run()
    await pipe.call("LSET", Partition(0).log(response_id), 1, b"garbage")
    await harness.execution(await harness.claim()).run()
    view = await harness.view(response_id)
    assert (Status.FAILED, 1) == (view.status, len(harness.model.calls))
