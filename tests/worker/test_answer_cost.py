"""The cost of an answer that is complete at once is bounded by counts, which are exact.

A failure means that each answer became more expensive. Raise a bound only if the benefit is worth
the cost, and explain why; lower it when a count has fallen.
"""

from __future__ import annotations

import asyncio
import re
import sys

from jobs.names import names_of
from tests.costs import calls_of, costs, fewest, without_loops
from tests.worker.harness import Harness

PROMPT = "mode=fast tokens=50"
# The commands that do not belong to an answer.
_OTHER = ("client", "config", "info", "script")


async def compacted(harness: Harness, response_id: str) -> int:
    """Waits until a log is compacted. Returns the number of commands that the wait took."""
    looks, job_key = 1, names_of(response_id).job(response_id)
    while not await harness.context.pipe.call("HEXISTS", job_key, "compacted"):
        looks += 1
        await asyncio.sleep(0.01)  # each look is a command
    return looks


async def test_an_answer_costs_one_task_three_timers_one_request_and_one_write_to_redis(
    harness: Harness,
) -> None:
    async def measured() -> tuple[int, int, int, int]:
        response_id = await harness.submit(PROMPT)
        execution = harness.execution(await harness.claim())
        with costs() as found:
            await execution.run()
        await compacted(harness, response_id)
        tasks, timers = without_loops(found.tasks), without_loops(found.timers)
        return tasks.total(), timers.total(), found.requests, found.commands

    tasks, timers, requests, commands = await fewest(measured)

    # aiohttp writes the body of the request in a task. From Python 3.12 on, the task ends at once
    # and is not counted.
    assert (1 if sys.version_info < (3, 12) else 0) == tasks
    # The timeout of the connection and the head, and the two timers of the stream's deadline.
    assert 3 == timers
    assert 1 == requests
    assert 1 == commands  # one script appends all events and ends the response


async def test_an_answer_costs_a_bounded_number_of_function_calls(harness: Harness) -> None:
    async def measured() -> tuple[int]:
        response_id = await harness.submit(PROMPT)
        execution = harness.execution(await harness.claim())
        with calls_of("jobs", "runtime", "worker") as calls:
            await execution.run()
        await compacted(harness, response_id)
        return (calls.total(),)

    [calls] = await fewest(measured)

    assert 250 < calls <= 545


async def test_an_answer_costs_a_bounded_number_of_redis_commands(harness: Harness) -> None:
    """The count includes the commands within the scripts of all processes of an answer."""
    pipe = harness.context.pipe

    async def measured() -> tuple[int, int]:
        await pipe.call("CONFIG", "RESETSTAT")
        response_id = await harness.submit(PROMPT)
        await harness.execution(await harness.claim()).run()
        looks = await compacted(harness, response_id)
        said = (await pipe.call("INFO", "commandstats")).decode()
        found = re.findall(r"cmdstat_([^:|]+)[^:]*:calls=(\d+)", said)
        counts = {name: int(calls) for name, calls in found if name not in _OTHER}

        return counts.pop("evalsha"), sum(counts.values()) - looks

    scripts, commands = await fewest(measured)

    assert 4 == scripts  # submit, claim, finish and compact
    assert 40 < commands <= 93
