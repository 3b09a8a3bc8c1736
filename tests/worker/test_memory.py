"""Tests that a finished job is freed without waiting for the garbage collector."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from jobs.names import Partition
from tests.garbage import collected
from worker.stop import Stop

if TYPE_CHECKING:
    from tests.worker.conftest import MakeHarness
    from tests.worker.harness import Harness

JOBS = 10


async def executed(harness: Harness, prompt: str) -> None:
    for _ in range(JOBS):
        await harness.submit(prompt)
        await harness.execution(await harness.claim()).run()


@pytest.mark.parametrize("prompt", ["tokens=20", "400", "500", "rst", "eof", "badjson", "call"])
async def test_a_finished_job_leaves_no_reference_cycles(
    make_harness: MakeHarness, prompt: str
) -> None:
    async with make_harness(HOLDLINE_MAX_ATTEMPTS="1") as harness:
        # The first run creates objects that are kept for all jobs.
        await executed(harness, prompt)
        with collected() as found:
            await executed(harness, prompt)
    assert {} == found.ours


@pytest.mark.parametrize("prompt", ["hang at=5", "mode=slow pace=0.02 tokens=1000"])
@pytest.mark.parametrize("reason", Stop)
async def test_a_stopped_job_leaves_no_reference_cycles(
    make_harness: MakeHarness, reason: Stop, prompt: str
) -> None:
    async def stopped(harness: Harness) -> None:
        await harness.submit(prompt)
        execution = harness.execution(await harness.claim())
        running = asyncio.create_task(execution.run())
        await harness.until_text(execution.grant.response_id)
        execution.stop(reason)
        await running

    async with make_harness() as harness:
        await stopped(harness)
        with collected() as found:
            for _ in range(3):
                await stopped(harness)
    assert {} == found.ours


async def test_a_job_whose_lease_is_lost_leaves_nothing_for_the_collector(
    make_harness: MakeHarness,
) -> None:
    async def fenced(harness: Harness) -> None:
        response_id = await harness.submit("mode=slow pace=0.02 tokens=1000")
        running = asyncio.create_task(harness.execution(await harness.claim()).run())
        await harness.until_text(response_id)
        await harness.context.pipe.call("HSET", Partition(0).job(response_id), "claim", "another")
        await running

    async with make_harness() as harness:
        await fenced(harness)
        with collected() as found:
            await fenced(harness)
    assert {} == found.ours
