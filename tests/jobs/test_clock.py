"""Tests that no stored time delays anything after Redis's clock has stepped back by an hour.

The tests move the stored times forward instead of the clock back.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobs.errors import Limited
from jobs.names import queue_name_of
from jobs.queue import Queue
from jobs.redis.pipe import Pipe
from tests.jobs.factories import NAMES, SETTINGS, a_job, claimed, new_claim, opening, submitted

STEP = 3_600_000
QUEUE = queue_name_of(None, "m")
LEASE = 200
QUICK = replace(SETTINGS, lease_ms=LEASE)


async def clock(pipe: Pipe) -> int:
    seconds, micros = await pipe.call("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


async def step_back(pipe: Pipe, key: str, member: str) -> None:
    await pipe.call("ZINCRBY", key, STEP, member)


async def due_in(pipe: Pipe, key: str, member: str) -> int:
    return int(await pipe.call("ZSCORE", key, member)) - await clock(pipe)


async def rescue(queue: Queue) -> None:
    await queue.leases.rescue(0, new_claim())


async def test_the_lease_of_a_dead_worker_still_expires(pipe: Pipe) -> None:
    queue = Queue(pipe, QUICK)
    job, _ = await claimed(queue)
    await step_back(pipe, NAMES.leases, job.id)
    await rescue(queue)
    assert await due_in(pipe, NAMES.leases, job.id) <= LEASE


async def test_the_lease_of_a_live_worker_is_still_extended(pipe: Pipe) -> None:
    queue = Queue(pipe, QUICK)
    job, grant = await claimed(queue)
    await step_back(pipe, NAMES.leases, job.id)
    assert ["held"] == await queue.leases.extend(0, [(job.id, grant.claim)])
    await rescue(queue)
    assert ["held"] == await queue.leases.extend(0, [(job.id, grant.claim)])


async def test_retries_and_inspections_are_not_postponed(pipe: Pipe) -> None:
    queue = Queue(pipe, QUICK)
    job, grant = await claimed(queue)
    await queue.leases.retry(job.id, grant.claim, 60_000, "busy")
    await step_back(pipe, NAMES.delayed, job.id)
    await step_back(pipe, NAMES.open, job.id)
    await rescue(queue)
    assert await due_in(pipe, NAMES.delayed, job.id) <= 60_000
    assert await due_in(pipe, NAMES.open, job.id) <= QUICK.inspect_ms


async def test_the_request_budget_of_a_tenant_is_refilled(pipe: Pipe) -> None:
    queue = Queue(pipe, replace(SETTINGS, tenant_requests=1))
    job = await submitted(queue, "a/")
    rate = f"{NAMES.prefix}rate:a"
    assert await pipe.call("HINCRBY", rate, "at", STEP)
    with pytest.raises(Limited) as refused:
        await submitted(queue, "a/")
    assert refused.value.wait <= 60
    assert int(await pipe.call("HGET", rate, "at")) <= await clock(pipe)
    assert job.id


async def test_the_request_budget_and_the_pause_of_a_provider_recover(pipe: Pipe) -> None:
    queue = Queue(pipe, SETTINGS)

    async def claim() -> int:
        return len(await queue.leases.claim(0, new_claim(), 1, {}, {"m": (12, 0)}))

    for _ in range(3):
        job = a_job("a")
        await queue.submit(job, opening(job), queue_name=QUEUE)
    assert 1 == await claim()
    await pipe.call("HINCRBY", NAMES.pace("m"), "at", STEP)
    assert (1, 0) == (await claim(), await claim())
    assert int(await pipe.call("HGET", NAMES.pace("m"), "at")) <= await clock(pipe)
    await pipe.call("DEL", NAMES.pace("m"))
    await queue.pause("m", 60)
    assert 0 == await claim()
    await pipe.call("HINCRBY", f"{NAMES.prefix}pause:m", "until", STEP)
    assert 1 == await claim()


async def test_a_wait_is_never_negative(pipe: Pipe) -> None:
    queue = Queue(pipe, SETTINGS)
    job = await submitted(queue)
    await pipe.call("HINCRBY", NAMES.job(job.id), "submitted", STEP)
    [grant] = await queue.leases.claim(0, new_claim(), 1)
    assert 0 == grant.waited_ms
