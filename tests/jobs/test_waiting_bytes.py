"""Tests the limit on the total size of unfinished prompts and the turns that they reference."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobs.errors import Limited, QueueFull
from jobs.log.log import LogWriter
from jobs.queue import Queue
from jobs.record import Job, Status, TurnSlice
from jobs.redis.pipe import Pipe
from tests.jobs.factories import (
    NAMES,
    SETTINGS,
    a_job,
    claimed,
    end_entry,
    ending,
    inspect_now,
    opening,
)

LARGE = "x" * 50_000


async def submit(queue: Queue, owner: str = "acme/anna", text: str = LARGE) -> Job:
    job = a_job(owner, text)
    await queue.submit(job, opening(job))
    return job


async def test_the_bytes_of_unfinished_prompts_are_bounded(pipe: Pipe) -> None:
    queue = Queue(pipe, replace(SETTINGS, max_waiting_bytes=120_000))
    jobs = [await submit(queue), await submit(queue, "other/bob")]
    with pytest.raises(QueueFull) as refused:
        await submit(queue)
    assert ("bytes of prompts", 120_000) == (refused.value.counted, refused.value.limit)
    assert 100_000 < refused.value.waiting < 102_000
    await submit(queue, text="small")

    await queue.cancel(jobs[0].id, 2, [ending(jobs[0], Status.CANCELLED)])
    await submit(queue)


async def test_the_bytes_of_unfinished_prompts_are_bounded_for_each_tenant(pipe: Pipe) -> None:
    queue = Queue(pipe, replace(SETTINGS, tenant_waiting_bytes=60_000))
    await submit(queue)
    with pytest.raises(Limited) as refused:
        await submit(queue, "acme/bob")
    assert ("waiting_bytes", 60_000) == (refused.value.what, refused.value.limit)
    await submit(queue, "other/")


async def test_referenced_turns_count_with_their_bytes(pipe: Pipe) -> None:
    queue = Queue(pipe, replace(SETTINGS, max_waiting_bytes=60_000))
    first = a_job()
    await queue.submit_completed(first, [ending(first)])
    await queue.turns.keep(first.id, first.owner, [{}])
    job = replace(a_job(), turns=[TurnSlice(first.id, 0, 1)], context_bytes=60_000)
    with pytest.raises(QueueFull):
        await queue.submit(job, opening(job))


async def test_each_way_to_end_a_prompt_frees_its_bytes(pipe: Pipe) -> None:
    queue = Queue(pipe, SETTINGS)
    finished, grant = await claimed(queue, "acme/anna")
    writer = LogWriter(pipe, finished.id, grant.claim, 2)
    await writer.finish(Status.COMPLETED, [end_entry(finished)], retention_ms=1000)
    cancelled, deleted, lost = [await submit(queue) for _ in range(3)]
    await queue.cancel(cancelled.id, 2, [ending(cancelled, Status.CANCELLED)])
    await queue.delete(deleted.id)
    await queue.delete(deleted.id)
    # Delete the job, as if it had expired.
    await pipe.call("DEL", NAMES.job(lost.id))
    assert 3 == await pipe.call("HLEN", NAMES.sizes)
    await inspect_now(pipe, lost.id)
    await queue.leases.rescue(0, "rescuer")
    assert 0 == await pipe.call("EXISTS", NAMES.sizes)


async def test_a_deletion_frees_the_bytes_of_a_prompt_whose_record_has_expired(pipe: Pipe) -> None:
    """Only the record has the owner. The sums of other tenants stay the same."""
    queue = Queue(pipe, SETTINGS)
    expired, other = await submit(queue, "acme/anna"), await submit(queue, "other/bob")
    await pipe.call("DEL", NAMES.job(expired.id))
    await queue.delete(expired.id)
    tenants = [await pipe.call("HGET", NAMES.sizes, name) for name in ("~acme", "~other", "~")]
    size = (await pipe.call("HGET", NAMES.sizes, other.id)).split()[0]
    assert [None, size, size] == tenants
