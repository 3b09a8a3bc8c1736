"""Helpers that move a job through the queue."""

from __future__ import annotations

from jobs.log.codec import decode_event
from jobs.log.events import TERMINAL_TYPES
from jobs.log.log import LogWriter, read
from jobs.queue import Queue
from jobs.record import Job, Status
from jobs.redis.pipe import Pipe
from jobs.replies import Accepted
from tests.jobs.factories import (
    NAMES,
    end_entry,
    new_claim,
    opening,
)


async def submit(queue: Queue, job: Job, key: str | None = None, body: str = "body") -> Accepted:
    return await queue.submit(job, opening(job), idempotency_key=key, fingerprint=body)


async def claim_ids(queue: Queue, count: int = 1, claim: str | None = None) -> list[str]:
    return [grant.response_id for grant in await queue.leases.claim(0, claim or new_claim(), count)]


async def finish(pipe: Pipe, job: Job, claim: str, status: Status = Status.COMPLETED) -> None:
    length = await pipe.call("LLEN", NAMES.log(job.id))
    writer = LogWriter(pipe, job.id, claim, length)
    await writer.finish(status, [end_entry(job, status)], retention_ms=60_000)


async def ends_in_log(pipe: Pipe, response_id: str) -> list[int]:
    """Returns the indexes of the terminal events in the log."""
    view = await read(pipe, response_id, 0)
    kinds = [decode_event(entry)["type"] for entry in view.entries]
    return [index for index, kind in enumerate(kinds) if kind in TERMINAL_TYPES]


async def dead(pipe: Pipe) -> list[bytes]:
    found: list[bytes] = await pipe.call("LRANGE", NAMES.dead, 0, -1)
    return found
