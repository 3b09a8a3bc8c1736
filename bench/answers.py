"""Creates responses without a model: the harness writes their logs with the real Lua scripts."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from jobs.ids import item_id, new_response_id
from jobs.log.codec import encode_text_delta
from jobs.log.events import opening_events, terminal
from jobs.log.log import LogWriter
from jobs.queue import Queue
from jobs.record import Job, SharedSettings, Status
from jobs.replies import Grant

if TYPE_CHECKING:
    from jobs.log.codec import Event
    from jobs.redis.pipe import Pipe

# The limits are high, so that a backlog causes no rejections and no lease expires in a benchmark.
SETTINGS = SharedSettings(max_waiting=1_000_000, lease_ms=600_000)
AT_ONCE = 500


def a_job(owner: str = "public") -> Job:
    """Returns a new job with a short prompt."""
    params = {"input": "Why is the sky blue?", "model": "bench"}
    return Job(new_response_id(0), owner, 1_700_000_000, params)


async def submit(queue: Queue, job: Job) -> None:
    """Enqueues a job with its first events, as the server does."""
    created, queued, begun = opening_events(job)
    await queue.submit(job, [created, queued], begins=begun)


def last_event(job: Job) -> Event:
    """Returns the final event of a completed response without output."""
    return terminal(
        job, Status.COMPLETED, output=[], attempts=1, timing={}, completed_at=job.created_at
    )


async def running(pipe: Pipe, count: int) -> list[LogWriter]:
    """Submits and claims `count` jobs, and returns a log writer for each."""
    queue = Queue(pipe, SETTINGS)
    jobs = [a_job() for _ in range(count)]
    await in_turns(submit(queue, job) for job in jobs)
    grants: list[Grant] = []
    while len(grants) < count:
        granted = await queue.leases.claim(
            0, secrets.token_hex(8), min(AT_ONCE, count - len(grants))
        )
        grants += granted
    return [LogWriter(pipe, it.response_id, it.claim, it.length) for it in grants]


async def in_turns(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Awaits coroutines in concurrent batches of `AT_ONCE`."""
    batch: list[Coroutine[Any, Any, None]] = []
    for one in work:
        batch.append(one)
        if len(batch) >= AT_ONCE:
            await asyncio.gather(*batch)
            batch = []
    await asyncio.gather(*batch)


def a_delta(response_id: str, text: str) -> bytes:
    """Returns the encoded log entry of one text delta."""
    return encode_text_delta(item_id("msg", response_id, 1, 0, "ab12"), 0, 0, text)
