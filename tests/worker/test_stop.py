"""Tests jobs that stop early: cancelled, returned to the queue, lost or deleted."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from jobs.log.events import RESTARTED
from jobs.record import Status
from jobs.redis.pipe import Pipe
from tests.system import wait_until
from tests.worker.harness import Harness, begun, numbered, response, said
from worker.stop import Stop


@pytest.mark.parametrize("mode", ["silent", "headers", "hang", "slow tokens=1000"])
async def test_a_cancel_closes_the_models_connection_within_250_ms(
    harness: Harness, mode: str
) -> None:
    response_id = await harness.submit(f"mode={mode}")
    execution = harness.execution(await harness.claim())
    running = asyncio.create_task(execution.run())
    await wait_until(lambda: harness.model.calls)
    if mode.startswith(("hang", "slow")):
        await harness.until_text(response_id)
    asked = time.monotonic()
    execution.stop(Stop.CANCEL)
    await running
    call = harness.model.calls[0]
    await wait_until(lambda: call.closed_by_client)
    assert call.closed_by_client is not None
    assert call.closed_by_client - asked < 0.25
    view = await harness.view(response_id)
    assert Status.CANCELLED is view.status
    events = await harness.events(response_id)
    ended = response(events)
    assert ("cancelled", None) == (ended["status"], ended["error"])
    assert bool(said(events)) == bool(ended["usage"])


async def test_a_cancelled_response_has_the_usage_that_the_provider_sent(harness: Harness) -> None:
    response_id = await harness.submit("mode=usage")
    execution = harness.execution(await harness.claim())
    running = asyncio.create_task(execution.run())
    await harness.until_said(response_id, numbered(1))
    execution.stop(Stop.CANCEL)
    await running
    assert 20 == response(await harness.events(response_id))["usage"]["output_tokens"]


async def test_a_cancel_reported_by_an_append_stops_the_job(harness: Harness) -> None:
    response_id = await harness.submit("mode=slow tokens=1000")
    running = asyncio.create_task(harness.execution(await harness.claim()).run())
    await wait_until(lambda: harness.model.calls and harness.model.calls[0].sent)
    await harness.context.queue.cancel(response_id, 0, [])
    await running
    assert Status.CANCELLED is (await harness.view(response_id)).status


async def test_a_job_cancelled_before_its_claim_calls_no_model(harness: Harness) -> None:
    response_id = await harness.submit("mode=rst times=1")
    grant = await harness.claim()
    await harness.context.queue.cancel(response_id, 0, [])
    await harness.context.queue.leases.give_back(response_id, grant.claim, "draining")
    await harness.execution(await harness.claim()).run()
    assert Status.CANCELLED is (await harness.view(response_id)).status
    assert [] == harness.model.calls


async def test_a_job_given_back_by_its_worker_is_claimed_again_at_once(harness: Harness) -> None:
    response_id = await harness.submit("mode=hang times=1")
    execution = harness.execution(await harness.claim())
    running = asyncio.create_task(execution.run())
    await harness.until_text(response_id)
    execution.stop(Stop.GIVE_BACK)
    await running
    grants = await harness.context.queue.leases.claim(0, "next", 1)
    assert [(2, 0, "draining")] == [(one.attempt, one.failures, one.reason) for one in grants]
    await harness.execution(grants[0]).run()
    events = await harness.events(response_id)
    assert numbered(2) == said(events)
    assert ["draining"] == [event["reason"] for event in events if event["type"] == RESTARTED]


async def test_a_worker_that_lost_its_claim_writes_nothing_more(harness: Harness) -> None:
    response_id = await harness.submit("mode=slow pace=0.05 times=1")
    running = await begun(harness)
    # No worker renews the lease, so it expires and a second attempt takes over the job.
    second = await harness.claim()
    assert (2, "worker_lost") == (second.attempt, second.reason)
    await harness.execution(second).run()
    before = await harness.view(response_id)
    await running
    await wait_until(lambda: harness.model.calls[0].closed_by_client)
    after = await harness.view(response_id)
    assert before.entries == after.entries
    events = await harness.events(response_id)
    at = [event["type"] for event in events].index(RESTARTED)
    assert "c1t" not in json.dumps(events[at:])
    assert numbered(2) == said(events)


async def test_a_lost_lease_ends_a_call_without_output(harness: Harness) -> None:
    response_id = await harness.submit("mode=headers")
    execution = harness.execution(await harness.claim())
    running = asyncio.create_task(execution.run())
    await wait_until(lambda: harness.model.calls)
    length = (await harness.view(response_id)).length
    execution.stop(Stop.LOST)
    await running
    await wait_until(lambda: harness.model.calls[0].closed_by_client)
    assert length == (await harness.view(response_id)).length


async def test_a_deleted_response_ends_its_call(harness: Harness, pipe: Pipe) -> None:
    response_id = await harness.submit("mode=slow tokens=1000")
    running = await begun(harness)
    await harness.context.queue.delete(response_id)
    await running
    await wait_until(lambda: harness.model.calls[0].closed_by_client)
    assert [] == await pipe.call("KEYS", "*:log:*")
