"""The experiment of tests/jobs/test_fairness.py with real workers, which call a model."""

from __future__ import annotations

import pytest

from jobs.keys import new_response_id
from jobs.record import Job
from tests.jobs.given import opening
from tests.system import wait_until
from tests.worker.conftest import MakeDesk, Work
from tests.worker.desk import Desk

SLOTS = 4
WORKERS = 2
FLOOD = 120


async def ask(desk: Desk, owner: str, prompt: str) -> str:
    job = Job(new_response_id(0), owner, 1, {"model": "m", "input": prompt})
    await desk.means.queue.submit(job, opening(job))
    return job.id


@pytest.mark.timeout(60)
async def test_a_flood_delays_another_by_what_runs_already(make_desk: MakeDesk, work: Work) -> None:
    short = {"HOLDLINE_CONCURRENCY": str(SLOTS), "HOLDLINE_LEASE_SECONDS": "15"}
    async with make_desk(**short) as desk, work(desk), work(desk):
        model = desk.model
        for number in range(FLOOD):
            await ask(desk, "flood", f"mode=slow pace=0.01 tokens=5 flood={number}")
        await wait_until(lambda: len(model.calls) >= SLOTS * WORKERS)
        waits = []
        for number in range(5):
            before = len(model.calls)
            prompt = f"mode=ok tokens=5 patient={number}"
            await desk.ended(await ask(desk, "patient", prompt))
            [place] = [i for i, call in enumerate(model.calls) if call.prompt == prompt]
            waits.append(place - before)
        flood = sum("flood" in call.prompt for call in model.calls)
        assert flood < FLOOD, "it was a flood all the time"
    print(f"\ncalls made between the submit and the call: {waits}; {WORKERS * SLOTS} run at once")
    # What was claimed before the submit may not have been called yet.
    assert max(waits) <= SLOTS * WORKERS
