"""Tests that jobs of a worker without the encryption key wait or fail with a specific code."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from jobs.cipher import Cipher
from jobs.log.codec import decode_event
from jobs.log.log import read
from jobs.queue import Queue
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from tests.jobs.factories import NAMES, SETTINGS, a_job, fall_due, opening, status_of
from tests.worker.harness import Harness
from worker.ending import close

CIPHER = Cipher(b64encode(os.urandom(32)).decode())


@pytest.fixture
async def locked(redis_url: str) -> AsyncIterator[Pipe]:
    """Yields a pipe with the servers' encryption keys; the worker's own pipe has no keys."""
    async with Pipe(Redis(redis_url, CIPHER)) as pipe:
        yield pipe


async def ask(locked: Pipe) -> str:
    job = a_job()
    await Queue(locked, SETTINGS).submit(job, opening(job))
    return job.id


def given_the_key(harness: Harness, locked: Pipe) -> None:
    """Gives the worker the servers' encryption key."""
    harness.context = replace(
        harness.context, pipe=locked, queue=Queue(locked, harness.context.config.shared)
    )


async def last(pipe: Pipe, response_id: str) -> dict[str, object]:
    """Returns the response object of the last event, decrypted with the worker's key."""
    length = (await read(pipe, response_id, 0, max_entries=0)).length
    [entry] = (await read(pipe, response_id, length - 1)).entries
    response: dict[str, object] = decode_event(entry)["response"]
    return response


async def test_a_job_waits_for_a_worker_that_has_its_key(
    harness: Harness, locked: Pipe, pipe: Pipe
) -> None:
    response_id = await ask(locked)
    await harness.execution(await harness.claim()).run()
    job = NAMES.job(response_id)
    assert [b"queued", b"key_missing"] == await pipe.call("HMGET", job, "status", "reason")
    assert 10_000 < await _delay(pipe, response_id)
    assert [] == harness.model.calls

    await fall_due(pipe, response_id)
    given_the_key(harness, locked)
    await harness.execution(await harness.claim()).run()
    assert "completed" == (await last(locked, response_id))["status"]
    assert 1 == len(harness.model.calls)


async def test_a_job_that_no_worker_can_decrypt_fails_with_its_own_code(
    harness: Harness, locked: Pipe, pipe: Pipe
) -> None:
    response_id = await ask(locked)
    for _ in range(harness.context.policy.max_attempts):
        await fall_due(pipe, response_id)
        await harness.execution(await harness.claim()).run()
    error = (await last(pipe, response_id))["error"]
    assert isinstance(error, dict)
    assert "key_missing" == error["code"]
    assert [] == await harness.context.queue.dead(0)
    assert [] == harness.model.calls


async def test_a_cancel_needs_no_key(harness: Harness, locked: Pipe, pipe: Pipe) -> None:
    response_id = await ask(locked)
    grant = await harness.claim()
    await harness.context.queue.cancel(response_id, grant.length, [])
    await pipe.call("ZADD", NAMES.leases, "XX", 0, response_id)
    _, [rescued] = await harness.context.queue.leases.rescue(0, "another")
    await harness.execution(rescued).run()
    assert "cancelled" == await status_of(pipe, response_id)


async def test_a_rescue_ends_a_job_that_it_cannot_decrypt(
    harness: Harness, locked: Pipe, pipe: Pipe
) -> None:
    response_id = await ask(locked)
    await close(harness.context, await harness.claim(), "queue_timeout")
    assert "failed" == (await last(pipe, response_id))["status"]
    assert [] == await harness.context.queue.dead(0)


async def test_an_altered_job_is_moved_to_the_dead_list(
    harness: Harness, locked: Pipe, pipe: Pipe
) -> None:
    given_the_key(harness, locked)
    response_id = await ask(locked)
    record = await pipe.call("HGET", NAMES.job(response_id), "job")
    await pipe.call("HSET", NAMES.job(response_id), "job", record[:-1] + bytes([record[-1] ^ 1]))
    await harness.execution(await harness.claim()).run()
    assert [response_id.encode()] == await harness.context.queue.dead(0)
    error = (await last(locked, response_id))["error"]
    assert isinstance(error, dict)
    assert "undecodable" == error["code"]


async def _delay(pipe: Pipe, response_id: str) -> float:
    due = float(await pipe.call("ZSCORE", NAMES.delayed, response_id))
    seconds, micro = await pipe.call("TIME")
    return due - int(seconds) * 1000 - int(micro) / 1000
