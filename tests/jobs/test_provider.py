"""Tests a model provider's limits, shared by all workers, and the reported reasons for waiting."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobs.names import queue_name_of
from jobs.queue import Queue
from jobs.redis.pipe import Pipe
from tests.jobs.factories import NAMES, SETTINGS, a_job, new_claim, opening

QUEUE = queue_name_of(None, "m")


@pytest.fixture
def queue(pipe: Pipe) -> Queue:
    return Queue(pipe, SETTINGS)


async def waits(queue: Queue, count: int, owner: str = "a", model: str = "m") -> None:
    for _ in range(count):
        job = a_job(owner)
        await queue.submit(job, opening(job), queue_name=queue_name_of(None, model))


async def claim(queue: Queue, count: int = 99, requests: int = 0, tokens: int = 0) -> int:
    return len(await queue.leases.claim(0, new_claim(), count, {}, {"m": (requests, tokens)}))


async def back(pipe: Pipe, key: str, field: str, ms: int) -> None:
    """Moves a stored time back, as if the given number of milliseconds had passed."""
    await pipe.call("HINCRBY", key, field, -ms)


async def why(queue: Queue, owner: str = "a") -> str:
    return (await queue.queue_positions(0, [(QUEUE, owner)]))[1][QUEUE, owner][2]


async def test_the_request_limit_of_a_provider_is_shared_by_all_workers(
    pipe: Pipe, queue: Queue
) -> None:
    await waits(queue, 30)
    assert 10 == await claim(queue, 9, requests=60) + await claim(queue, requests=60)
    assert "provider_rate" == await why(queue)
    await back(pipe, NAMES.pace("m"), "at", 3000)
    assert 3 == await claim(queue, requests=60)


async def test_estimated_tokens_count_against_the_token_limit_of_a_provider(
    pipe: Pipe, queue: Queue
) -> None:
    await waits(queue, 30)
    # The limit for ten seconds is 1,000 tokens, and each job needs slightly more than 500.
    assert 2 == await claim(queue, tokens=6000)
    assert 0 == await claim(queue, tokens=6000)
    await back(pipe, NAMES.pace("m"), "at", 10_000)
    assert 2 == await claim(queue, tokens=6000)


async def test_a_job_waiting_for_its_provider_does_not_delay_others(queue: Queue) -> None:
    await waits(queue, 30)
    await queue.pause("m", 60)
    await waits(queue, 3, model="n")
    assert 3 == await claim(queue)
    assert "provider_rate" == await why(queue)


async def test_requests_resume_slowly_after_a_pause(pipe: Pipe, queue: Queue) -> None:
    await waits(queue, 40)
    await queue.pause("m", 100)
    assert 0 == await claim(queue)
    begun = []
    await back(pipe, NAMES.pause("m"), "until", 100_000)
    for _ in range(4):
        begun.append(await claim(queue))
        await back(pipe, NAMES.pause("m"), "until", 500)
    # Real time passes during the test, so a busy machine may start more jobs, but never all jobs at
    # once.
    assert 1 <= begun[0] <= 4, begun
    assert sum(begun) < 40, begun
    await pipe.call("DEL", NAMES.pause("m"))
    assert 40 - sum(begun) == await claim(queue)


async def test_a_pause_is_never_shortened(pipe: Pipe, queue: Queue) -> None:
    await queue.pause("m", 60)
    till = await pipe.call("HGET", NAMES.pause("m"), "until")
    await queue.pause("m", 1)
    assert till == await pipe.call("HGET", NAMES.pause("m"), "until")


async def test_the_reason_for_a_wait_is_reported(pipe: Pipe) -> None:
    narrow = Queue(pipe, replace(SETTINGS, tenant_running=1))
    await waits(narrow, 2)
    assert "" == await why(narrow)
    assert 1 == await claim(narrow)
    assert 0 == await claim(narrow)
    await waits(narrow, 1, "b")
    assert ("own_limit", "") == (await why(narrow), await why(narrow, "b"))
