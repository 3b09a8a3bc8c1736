"""An experiment on a real Redis: one tenant has 10,000 waiting prompts, another submits one.

Time is discrete: each step ends one running answer and fills its slot again. The test counts the
answers that end between the submission of the single prompt and its claim. Their number may not
exceed the number of slots. Run it with `-s` to print the figures.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque

import pytest

from jobs.log.codec import decode_job
from jobs.log.log import LogWriter
from jobs.queue import Queue
from jobs.record import Status
from jobs.redis.pipe import Pipe
from jobs.replies import Grant
from tests.jobs.factories import SETTINGS, end_entry, new_claim, submitted

FLOOD = 10_000
SLOTS = 20
ROUNDS = 25


async def end(pipe: Pipe, grant: Grant, tokens: int) -> None:
    writer = LogWriter(pipe, grant.response_id, grant.claim, 2)
    last = end_entry(decode_job(grant.job))
    await writer.finish(Status.COMPLETED, [last], retention_ms=60_000, tokens=tokens)


@pytest.mark.timeout(120)
async def test_ten_thousand_jobs_of_one_tenant_delay_another_only_by_running_jobs(
    pipe: Pipe,
) -> None:
    queue, rng = Queue(pipe, SETTINGS), random.Random(4)
    # On a busy machine, the last submission of a larger batch reaches its deadline.
    for _ in range(FLOOD // 100):
        await asyncio.gather(*(submitted(queue, "flood") for _ in range(100)))
    running = deque(await queue.leases.claim(0, new_claim(), SLOTS))
    assert SLOTS == len(running)
    waits: list[int] = []
    for _ in range(ROUNDS):
        patient = await submitted(queue, "patient")
        waited = 0
        while patient.id not in {grant.response_id for grant in running}:
            running.rotate(rng.randrange(SLOTS))
            ended = running.popleft()
            flood = decode_job(ended.job).owner == "flood"
            await end(pipe, ended, rng.choice([20, 500, 8000]) if flood else 20)
            running += await queue.leases.claim(0, new_claim(), SLOTS - len(running))
            waited += 1
            assert waited <= SLOTS, f"{waited} answers ended, and it still waits"
        waits.append(waited)
    left = await pipe.call("LLEN", "holdline:{0}:waiting:flood")
    print(
        f"\n{FLOOD} waiting of one tenant, {SLOTS} running, {left} left at the end: "
        f"{ROUNDS} prompts of another waited for {min(waits)} to {max(waits)} ends of running "
        f"answers, {sum(waits) / ROUNDS:.2f} on average"
    )
    assert left > FLOOD - 500, "it was a flood all the time"
    assert max(waits) <= SLOTS
    # Empty Redis, so that the checks after the test do not have to examine the keys of all waiting
    # jobs.
    await pipe.call("FLUSHALL")
