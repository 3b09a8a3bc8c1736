"""Tests that encrypted jobs and logs work like plain ones and that no plaintext is stored."""

from __future__ import annotations

import os
from base64 import b64encode
from typing import Any

import pytest

from jobs.cipher import Cipher
from jobs.errors import (
    EncryptionKeyMissing,
    Fenced,
    IdempotencyKeyReused,
    RedisAway,
    RedisUnsuitable,
    Undecodable,
)
from jobs.log.codec import encode_event, job_of
from jobs.log.events import submitted as opening_of
from jobs.log.log import LogWriter, read, read_all
from jobs.queue import Queue
from jobs.record import Job, Status
from jobs.redis.check import check, check_until_available
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from tests.jobs.dump import dump
from tests.jobs.factories import (
    NAMES,
    SETTINGS,
    a_job,
    claimed,
    ending,
    new_claim,
    opening,
    said,
    saying,
)

CANARY = "canary"
OLD, NEW = (b64encode(os.urandom(32)).decode() for _ in range(2))


@pytest.fixture
def redis(redis_url: str) -> Redis:
    return Redis(redis_url, Cipher(OLD))


@pytest.fixture
def queue(pipe: Pipe) -> Queue:
    return Queue(pipe, SETTINGS)


def other(redis_url: str, listed: str | None) -> Pipe:
    """Returns the pipe of a process that has other encryption keys or no keys."""
    return Pipe(Redis(redis_url, None if listed is None else Cipher(listed)))


def not_away(error: RedisAway) -> None:
    raise error


def of(job: Job, pieces: int = 6) -> list[bytes]:
    """Returns all log entries of an attempt."""
    parts = [f"{CANARY}-answer {number} " for number in range(pieces)]
    text = "".join(parts)
    events = [*saying(job, 1, 0, parts), *said(job, 1, 0, text), ending(job, text=text)]
    return list(map(encode_event, events))


async def answered(
    pipe: Pipe, queue: Queue, pieces: int = 6, key: str = "k"
) -> tuple[Job, LogWriter, list[bytes]]:
    """Returns a finished answer whose log is not yet compacted."""
    job = a_job(text=f"{CANARY}-prompt", instructions=f"{CANARY}-instructions")
    await queue.submit(job, opening(job), idempotency_key=key, fingerprint="fingerprint")
    [grant] = await queue.leases.claim(0, new_claim(), 1)
    assert job == job_of(job.id, grant.job, pipe.cipher)
    writer, entries = LogWriter(pipe, job.id, grant.claim, grant.length), of(job, pieces)
    await writer.append(entries[:-1])
    await writer.finish(Status.COMPLETED, entries[-1:], retention_ms=60_000)
    return job, writer, entries


@pytest.mark.parametrize("compacted", [False, True])
async def test_an_encrypted_log_reads_the_same_from_every_index_and_is_stored_nowhere_in_plain(
    pipe: Pipe, queue: Queue, compacted: bool
) -> None:
    job, writer, entries = await answered(pipe, queue, 3000)
    head = list(map(encode_event, opening_of(job)))
    if compacted:
        await writer.compact(head, entries)
    assert compacted != await pipe.call("EXISTS", NAMES.log(job.id))
    whole = head + entries
    assert whole == (await read_all(pipe, job.id)).entries
    for start in (0, 1, 1999, 2000, 2001, len(whole) - 1):
        view = await read(pipe, job.id, start)
        assert whole[start : start + len(view.entries)] == view.entries
        assert view.entries
    held = repr(await dump(pipe))
    assert job.id in held
    assert CANARY not in held
    assert "fingerprint" not in held


async def test_a_repeated_encrypted_append_is_recognized(pipe: Pipe, queue: Queue) -> None:
    job, grant = await claimed(queue)
    entries = of(job)
    # Repeat the append, as a worker does if the first reply was lost.
    for _ in range(2):
        await LogWriter(pipe, job.id, grant.claim, grant.length).append(entries[:-1])
    for _ in range(2):
        again = LogWriter(pipe, job.id, grant.claim, grant.length + len(entries) - 1)
        await again.finish(Status.COMPLETED, entries[-1:], retention_ms=60_000)
    assert entries == (await read_all(pipe, job.id)).entries[2:]


async def test_an_encrypted_waiting_job_is_cancelled_at_once(pipe: Pipe, queue: Queue) -> None:
    job = a_job()
    await queue.submit(job, opening(job))
    last = ending(job, Status.CANCELLED, f"{CANARY}-answer")
    assert await queue.cancel(job.id, 2, [last])
    assert encode_event(last) == (await read_all(pipe, job.id)).entries[-1]
    assert CANARY not in repr(await dump(pipe))


async def test_an_entry_moved_to_another_response_or_place_is_rejected(
    pipe: Pipe, queue: Queue
) -> None:
    (one, _, _), (two, _, _) = await answered(pipe, queue), await answered(pipe, queue, key="other")
    for source, at in ((one.id, 3), (two.id, 4)):
        moved = await pipe.call("LINDEX", NAMES.log(source), 3)
        before = await pipe.call("LINDEX", NAMES.log(two.id), at)
        await pipe.call("LSET", NAMES.log(two.id), at, moved)
        with pytest.raises(Undecodable):
            await read_all(pipe, two.id)
        await pipe.call("LSET", NAMES.log(two.id), at, before)
    await read_all(pipe, two.id)
    record = await pipe.call("HGET", NAMES.job(one.id), "job")
    with pytest.raises(Undecodable):
        job_of(two.id, record, pipe.cipher)


async def test_exchanged_blocks_are_rejected(pipe: Pipe, queue: Queue) -> None:
    job, writer, entries = await answered(pipe, queue, 3000)
    await writer.compact(list(map(encode_event, opening_of(job))), entries)
    first, second = await pipe.call("HMGET", NAMES.job(job.id), "block0", "block1")
    await pipe.call("HSET", NAMES.job(job.id), "block0", second, "block1", first)
    for start in (0, 2000):
        with pytest.raises(Undecodable):
            await read(pipe, job.id, start)


async def test_a_new_first_key_encrypts_and_the_old_key_still_decrypts(
    pipe: Pipe, queue: Queue, redis_url: str
) -> None:
    job, grant = await claimed(queue)
    entries = of(job)
    await LogWriter(pipe, job.id, grant.claim, grant.length).append(entries[:4])
    async with other(redis_url, f"{NEW} {OLD}") as rotated:
        writer = LogWriter(rotated, job.id, grant.claim, grant.length + 4)
        assert entries[:4] == (await read_all(rotated, job.id)).entries[2:]
        await writer.append(entries[4:-1])
        await writer.finish(Status.COMPLETED, entries[-1:], retention_ms=60_000)
        whole = (await read_all(rotated, job.id)).entries
        assert entries == whole[2:]
        # The start of the log is encrypted with the old key. The writer cannot verify it, so the
        # writer does not compact the log.
        await writer.compact(whole[:2], entries)
        assert whole == (await read_all(rotated, job.id)).entries
    with pytest.raises(EncryptionKeyMissing):
        await read_all(pipe, job.id)
    with pytest.raises(Fenced):
        await LogWriter(pipe, job.id, grant.claim, grant.length + 4).append(entries[4:])


async def test_an_idempotency_key_is_recognized_after_a_key_rotation(
    pipe: Pipe, queue: Queue, redis_url: str
) -> None:
    job, _, _ = await answered(pipe, queue)
    async with other(redis_url, f"{NEW} {OLD}") as rotated:
        again, later = a_job(), Queue(rotated, SETTINGS)
        about: dict[str, Any] = {"idempotency_key": "k", "fingerprint": "fingerprint"}
        assert job.id == (await later.submit(again, opening(again), **about)).response_id
        assert job.id == (await later.submit_completed(again, opening(again), **about)).response_id
        assert job.id == await later.made(0, "public", "k", "fingerprint")
        assert await later.made(0, "public", "k", "another") is None
        with pytest.raises(IdempotencyKeyReused):
            await later.submit(again, opening(again), idempotency_key="k", fingerprint="another")


@pytest.mark.parametrize("listed", [None, NEW], ids=["no keys", "another key"])
async def test_a_missing_key_is_named_in_the_error(
    pipe: Pipe, queue: Queue, redis_url: str, listed: str | None
) -> None:
    job, writer, entries = await answered(pipe, queue)
    record = await pipe.call("HGET", NAMES.job(job.id), "job")
    async with other(redis_url, listed) as stranger:
        with pytest.raises(EncryptionKeyMissing) as missing:
            job_of(job.id, record, stranger.cipher)
        assert Cipher(OLD).ids[0] == missing.value.key_id
        # Without a cipher, a process returns the entries still encrypted.
        if listed is not None:
            with pytest.raises(EncryptionKeyMissing):
                await read_all(stranger, job.id)
        await writer.compact(list(map(encode_event, opening_of(job))), entries)
        with pytest.raises(EncryptionKeyMissing):
            await read_all(stranger, job.id)


async def test_a_process_that_lacks_the_key_of_others_does_not_start(
    pipe: Pipe, redis_url: str
) -> None:
    async with other(redis_url, None) as stranger:
        await check(stranger)
    await check_until_available(pipe, not_away)
    for listed, right in (
        (None, False),
        (NEW, False),
        ("plain", False),
        (OLD, True),
        (f"{NEW} {OLD}", True),
        (f"plain {OLD}", True),
    ):
        async with other(redis_url, listed) as process:
            if right:
                await check(process)
            else:
                with pytest.raises(RedisUnsuitable, match=f"with the key {Cipher(OLD).ids[0]}"):
                    await check(process)
    async with other(redis_url, f"plain {OLD}") as switching_off:
        await check_until_available(switching_off, not_away)
    async with other(redis_url, None) as without, other(redis_url, NEW) as on_again:
        await check(without)
        with pytest.raises(RedisUnsuitable, match="add the word plain to HOLDLINE_ENCRYPTION_KEYS"):
            await check(on_again)


async def test_the_key_check_passes_on_a_full_redis(pipe: Pipe) -> None:
    await pipe.call("CONFIG", "SET", "maxmemory", "1")
    try:
        assert "no AOF" in await check_until_available(pipe, not_away)
    finally:
        await pipe.call("CONFIG", "SET", "maxmemory", "0")
