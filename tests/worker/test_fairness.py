"""Runs the experiment of tests/jobs/test_fairness.py with workers that call a model.

Run it with `-s` to print the figures.
"""

from __future__ import annotations

import asyncio
from statistics import median

import pytest

from jobs.ids import new_response_id
from jobs.log.codec import decode_event
from jobs.log.log import read_all
from jobs.log.view import View
from jobs.queue import Queue
from jobs.record import Job
from jobs.redis.pipe import Pipe
from tests.fake_model import FakeModel
from tests.jobs.factories import NAMES, SETTINGS, opening
from tests.system import System, wait_until

FLOOD = 10_000
SLOTS = 4
WORKERS = 2
ROUNDS = 25


async def ask(queue: Queue, owner: str, prompt: str) -> str:
    job = Job(new_response_id(0), owner, 1, {"model": "m", "input": prompt})
    await queue.submit(job, opening(job))
    return job.id


async def waited_ms(pipe: Pipe, response_id: str) -> int:
    """Returns how long a finished response waited for its claim, according to its own record."""

    async def end() -> View | None:
        view = await read_all(pipe, response_id)
        return view if view.status.ended else None

    view = await wait_until(end)
    receipt = decode_event(view.entries[-1])["response"]["holdline"]
    assert receipt["attempts"] == 1
    queued: int = receipt["timing"]["queued_ms"]
    return queued


# In `make test`, tests/jobs/test_fairness.py tests fairness without separate processes.
@pytest.mark.heavy
@pytest.mark.timeout(120)
async def test_ten_thousand_prompts_of_one_tenant_delay_another_only_by_running_answers(
    system: System, pipe: Pipe
) -> None:
    queue, short = Queue(pipe, SETTINGS), {"HOLDLINE_CONCURRENCY": str(SLOTS)}
    system.environ["HOLDLINE_LEASE_SECONDS"] = "15"
    async with FakeModel() as model:
        for first in range(0, FLOOD, 500):
            prompts = (f"mode=slow pace=0.02 tokens=5 flood={first + n}" for n in range(500))
            await asyncio.gather(*(ask(queue, "flood", prompt) for prompt in prompts))
        await asyncio.gather(*(system.worker(model.url, **short) for _ in range(WORKERS)))
        await wait_until(lambda: len(model.calls) >= 3 * SLOTS * WORKERS)
        places, waits = [], []
        for number in range(ROUNDS):
            before, prompt = len(model.calls), f"mode=ok tokens=5 patient={number}"
            waits.append(await waited_ms(pipe, await ask(queue, "patient", prompt)))
            [place] = [i for i, call in enumerate(model.calls) if call.prompt == prompt]
            places.append(place - before)
        left = await pipe.call("LLEN", NAMES.waiting_prefix + "flood")
    print(
        f"\n{FLOOD} waiting of one tenant, {WORKERS} workers with {SLOTS} answers each, {left} "
        f"left at the end: {ROUNDS} prompts of another waited {median(waits):.0f} ms, at most "
        f"{max(waits)} ms; {median(places):.0f} calls came between, at most {max(places)}"
    )
    assert left > FLOOD / 2, "it was a flood all the time"
    # Each slot may add two model calls to a prompt's wait. One is for a job that was claimed before
    # the prompt's submission and called after it. The other is for a job that was claimed after the
    # prompt and called before it.
    assert max(places) < 2 * SLOTS * WORKERS
    assert median(places) <= SLOTS * WORKERS
    # Empty Redis, so that the checks after the test do not have to examine the keys of all waiting
    # jobs.
    await pipe.call("FLUSHALL")
