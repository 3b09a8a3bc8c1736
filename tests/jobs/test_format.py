"""Tests that this version uses data of newer versions, and leaves data of newer formats alone."""

from __future__ import annotations

import os
import zlib
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from jobs.checkpoint import Checkpoint
from jobs.checkpoint import decoded as decoded_checkpoint
from jobs.cipher import Cipher
from jobs.ciphertext import ITEM, JOB, METADATA, STEER, TURN
from jobs.errors import NewerFormat, RedisUnsuitable
from jobs.format import FORMAT
from jobs.log.codec import (
    Event,
    decode_event,
    encode_job,
    item_of,
    job_of,
    metadata_of,
    steer_of,
    turn_of,
)
from jobs.log.compaction import _DICTIONARY, compact, expand
from jobs.log.log import LogWriter, read, read_all
from jobs.log.response_state import ResponseState
from jobs.names import Partition
from jobs.queue import Queue
from jobs.record import Job, Status, TurnSlice
from jobs.redis.check import check, check_until_available
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from jobs.tenants import numbers
from jobs.worker_registry import WorkerRegistry, WorkerState
from tests.jobs.factories import (
    NAMES,
    a_job,
    end_entry,
    inspect_now,
    message_added,
    new_claim,
    opening,
    run_out,
    status_of,
    submitted,
)
from tests.jobs.steps import claim_ids, dead

NEWER = FORMAT + 1
QUEUE = f"{NEWER}/d:m"  # the name of a queue of the newer format
CIPHER = Cipher(b64encode(os.urandom(32)).decode())
ID = a_job().id


def block(*content: Any) -> bytes:
    """Returns a block with any content."""
    packer = zlib.compressobj(zdict=_DICTIONARY)
    return packer.compress(msgpack.packb([*content])) + packer.flush()


# The function that reads each kind of value, the kind by which the value is encrypted, and values
# of a newer format.
READERS: dict[str, tuple[Callable[[bytes, Cipher | None], Any], bytes, list[Any]]] = {
    "job": (lambda data, cipher: job_of(ID, data, cipher), JOB, [{}, [ID, "public", 1, {}]]),
    "turn": (lambda data, cipher: turn_of(ID, data, cipher), TURN, [[], [{"type": "message"}]]),
    "item": (lambda data, cipher: item_of(ID, data, cipher), ITEM, [{"type": "message"}, 7]),
    "metadata": (lambda data, cipher: metadata_of(ID, data, cipher), METADATA, [{"a": "b"}]),
    "steer": (lambda data, cipher: steer_of(ID, data, cipher), STEER, ["given", [[], 5]]),
}


@pytest.mark.parametrize("cipher", [None, CIPHER], ids=["plain", "encrypted"])
@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("number", [NEWER, 99])
def test_each_value_of_a_newer_format_is_recognized(
    kind: str, number: int, cipher: Cipher | None
) -> None:
    read, encrypted_as, values = READERS[kind]
    for value in values:
        packed = msgpack.packb([number, *(value if isinstance(value, list) else [value])])
        if cipher is not None:
            [packed] = cipher.encrypted(ID, 0, [packed], encrypted_as)
        with pytest.raises(NewerFormat):
            read(packed, cipher)


def test_a_code_that_a_newer_format_has_added_is_recognized() -> None:
    for fields in ([], ["msg_1"], ["msg_1", 0, 0, "text", {}]):
        with pytest.raises(NewerFormat):
            decode_event(msgpack.packb([99, *fields]))


@pytest.mark.parametrize("content", [[NEWER], [NEWER, {}], [NEWER, [], [[b"x"]], 7]])
def test_a_block_of_a_newer_format_is_recognized(content: list[Any]) -> None:
    with pytest.raises(NewerFormat):
        expand(block(*content))


def test_a_status_that_a_newer_format_has_added_is_recognized() -> None:
    with pytest.raises(NewerFormat):
        Status("suspended")


# Fields that a newer version has added without a new format


def test_a_job_with_further_fields_is_read() -> None:
    turn = TurnSlice(ID, 0, 2, "msg_1")
    job = Job(ID, "public", 1, {"model": "m", "input": []}, turns=[turn])
    number, *fields, _ = msgpack.unpackb(encode_job(job))
    more = [number, *fields, [[*turn, "further"]], {"further": 1}, 7]
    assert job == job_of(ID, msgpack.packb(more), None)
    params = {**job.params, "further": {"a": 1}}
    [given] = [job_of(ID, encode_job(Job(ID, "public", 1, params)), None)]
    assert params == given.params


def test_a_steer_with_further_fields_is_read() -> None:
    packed = msgpack.packb(["given", [{"type": "message"}], 5, {"further": 1}])
    assert ["given", [{"type": "message"}], 5] == steer_of(ID, packed, None)


def test_a_block_with_further_fields_is_read() -> None:
    entries = [b"one", b"two"]
    [compacted] = compact(entries)
    unpacker = zlib.decompressobj(zdict=_DICTIONARY)
    content = msgpack.unpackb(unpacker.decompress(compacted.data) + unpacker.flush())
    assert entries == expand(block(*content, {"further": 1}))


def test_a_checkpoint_with_further_fields_is_read() -> None:
    checkpoint = Checkpoint("m", "up_1", 3, [[0, 0, True, ["a"], []]], "model")
    packed = msgpack.packb([*msgpack.unpackb(checkpoint.encoded()), {"further": 1}])
    assert checkpoint == decoded_checkpoint(packed)


def test_an_event_of_an_unknown_type_is_passed_on_and_changes_no_state() -> None:
    job = a_job()
    before: list[Event] = [*opening(job), *message_added("msg_1", 0)]
    unknown: list[Event] = [
        {"type": "response.further", "data": 1},
        {"type": "response.output_text.further", "output_index": 0, "item_id": "msg_1"},
        {"type": "holdline:further", "response_id": job.id},
    ]
    for event in unknown:
        entry = msgpack.packb([event["type"], {k: v for k, v in event.items() if k != "type"}])
        assert event == decode_event(entry)
    assert vars(ResponseState(before)) == vars(ResponseState([*before, *unknown]))


async def test_a_worker_that_reports_further_fields_is_listed(pipe: Pipe) -> None:
    running = ["resp_1", "fast", 1, 900, 300, "further"]
    recent = {"model": "fast", "ended": 1, "failed": 0, "cause": "", "further": 1}
    record = ["host", 7, "9.0", 5_000, 4, ["fast"], "warming", "", 1, [running], [recent], "x", {}]
    registry = WorkerRegistry(pipe, 60_000)
    names = Partition(0)
    seconds, _ = await pipe.call("TIME")
    at = int(seconds) * 1000
    await pipe.call("ZADD", names.workers, at + 60_000, "a")
    await pipe.call("PEXPIRE", names.workers, 60_000)
    await pipe.call("SET", names.worker("a"), b"%d %b" % (at, msgpack.packb(record)), "PX", 60_000)
    [worker] = await registry.all()
    [response] = worker.responses
    assert ("host", WorkerState.PAUSED, "resp_1", at - 300) == (
        worker.host,
        worker.state,
        response.response_id,
        response.first_token_at,
    )


def test_a_further_setting_of_a_tenant_is_ignored() -> None:
    assert {"running": 3} == numbers({"running": "3", "further": "words"})


async def test_a_record_with_further_fields_passes_through_all_transitions(
    pipe: Pipe, queue: Queue
) -> None:
    job = await submitted(queue)
    await pipe.call("HSET", NAMES.job(job.id), "further", "x", "further_2", "y")
    for number in range(2):
        [grant] = await queue.leases.claim(0, new_claim(), 1)
        assert number + 1 == grant.attempt
        await queue.leases.give_back(job.id, grant.claim, "draining")
    [grant] = await queue.leases.claim(0, new_claim(), 1)
    await run_out(pipe, job.id)
    assert (1, []) == await queue.leases.rescue(0, new_claim())
    [grant] = await queue.leases.claim(0, new_claim(), 1)
    writer = LogWriter(pipe, job.id, grant.claim, grant.length)
    entries = [msgpack.packb(["response.further", {"a": 1}])]
    await writer.append(entries)
    await writer.finish(Status.COMPLETED, [end_entry(job)], retention_ms=60_000)
    assert Status.COMPLETED == (await read_all(pipe, job.id)).status
    assert b"x" == await pipe.call("HGET", NAMES.job(job.id), "further")


# Jobs of a newer format in the queue


async def newer(queue: Queue, pipe: Pipe, owner: str = "public") -> Job:
    """Submits a job as a newer version does whose format this version cannot read."""
    job = a_job(owner)
    await queue.submit(job, opening(job), queue_name=QUEUE)
    await pipe.call("HSET", NAMES.job(job.id), "job", msgpack.packb([NEWER, job.id, {}]))
    return job


@pytest.mark.parametrize("listed", [True, False])
async def test_a_job_of_a_newer_format_is_not_claimed_and_delays_no_other_job(
    pipe: Pipe, queue: Queue, listed: bool
) -> None:
    too_new = await newer(queue, pipe)
    known = await submitted(queue)
    room = {"m": -1, "d:m": -1} if listed else {}
    claimed = await queue.leases.claim(0, new_claim(), 10, room, only_listed=listed)
    assert [known.id] == [grant.response_id for grant in claimed]
    again = await queue.leases.claim(0, new_claim(), 10, room, only_listed=listed)
    assert ([], True) == ([*again], again.blocked)
    assert "queued" == await status_of(pipe, too_new.id)
    assert [] == await dead(pipe)


async def test_a_job_in_a_queue_with_its_own_format_is_claimed(queue: Queue) -> None:
    job = a_job()
    await queue.submit(job, opening(job), queue_name=f"{FORMAT}/d:m")
    assert [job.id] == await claim_ids(queue)


async def running(pipe: Pipe, job: Job, **fields: str) -> None:
    """Makes a job running, with an expired lease, as if a newer worker had claimed it and died."""
    state = {"status": "running", "claim": "newer", "attempt": "1", "failures": "9", **fields}
    flat = [part for pair in state.items() for part in pair]
    await pipe.call("HSET", NAMES.job(job.id), *flat)
    await pipe.call("ZADD", NAMES.leases, 0, job.id)


@pytest.mark.parametrize("field", ["cancel", "ending", "fail_on_death", "further"])
async def test_a_rescue_leaves_the_jobs_of_newer_workers_alone(
    pipe: Pipe, queue: Queue, field: str
) -> None:
    job = await newer(queue, pipe)
    await running(pipe, job, **{field: "1"})
    before = await pipe.call("HGETALL", NAMES.job(job.id))
    for _ in range(3):
        assert (0, []) == await queue.leases.rescue(0, new_claim())
        await inspect_now(pipe, job.id)
    assert before == await pipe.call("HGETALL", NAMES.job(job.id))
    assert await pipe.call("ZSCORE", NAMES.leases, job.id) is not None


@pytest.mark.parametrize("status", ["queued", "suspended"])
async def test_a_rescue_neither_ends_nor_forgets_a_job_of_a_newer_format(
    pipe: Pipe, queue: Queue, status: str
) -> None:
    job = await newer(queue, pipe)
    await pipe.call("HSET", NAMES.job(job.id), "until", 1, "status", status)
    await inspect_now(pipe, job.id)
    assert (0, []) == await queue.leases.rescue(0, new_claim())
    assert status == await status_of(pipe, job.id)
    assert await pipe.call("ZSCORE", NAMES.open, job.id)


async def test_many_lost_jobs_of_a_newer_format_do_not_hide_a_lost_job(
    pipe: Pipe, queue: Queue
) -> None:
    for _ in range(101):  # one more than one rescue looks at
        await running(pipe, await newer(queue, pipe))
    known = await submitted(queue)
    await claim_ids(queue)
    await run_out(pipe, known.id)
    await pipe.call("ZADD", NAMES.leases, 1, known.id)
    rescued = [(await queue.leases.rescue(0, new_claim()))[0] for _ in range(2)]
    assert 1 == sum(rescued)


async def test_reading_a_status_of_a_newer_format_names_the_cause(pipe: Pipe, queue: Queue) -> None:
    job = await submitted(queue)
    await pipe.call("HSET", NAMES.job(job.id), "status", "suspended")
    with pytest.raises(NewerFormat):
        await read(pipe, job.id, 0)


# The key `format`


def unexpected(error: Exception) -> None:
    raise AssertionError(error)


async def test_a_process_that_is_too_old_for_the_data_does_not_start(
    pipe: Pipe, redis: Redis
) -> None:
    await pipe.call("SET", NAMES.format, f"{NEWER} 7.8.9", "PX", 60_000)
    for attempt in (check(pipe), check_until_available(pipe, unexpected)):
        with pytest.raises(RedisUnsuitable, match=r"start Holdline 7\.8\.9 or newer") as refused:
            await attempt
        assert "\n" not in str(refused.value)
    assert f"{NEWER} 7.8.9".encode() == await pipe.call("GET", NAMES.format)


@pytest.mark.parametrize(
    "value", ["", "words", "-1 0.0.1", "2.1 7.8.9", "\u0662", "9" * 5_000, f"{NEWER}\n7.8.9"]
)
async def test_a_process_does_not_start_if_the_stored_format_is_unreadable(
    pipe: Pipe, value: str
) -> None:
    await pipe.call("SET", NAMES.format, value, "PX", 60_000)
    for attempt in (check(pipe), check_until_available(pipe, unexpected)):
        with pytest.raises(RedisUnsuitable, match="is unreadable: a newer version may have") as no:
            await attempt
        assert NAMES.format in str(no.value)
    assert value.encode() == await pipe.call("GET", NAMES.format)


async def test_a_newer_format_without_a_version_is_refused_with_whole_words(pipe: Pipe) -> None:
    await pipe.call("SET", NAMES.format, str(NEWER), "PX", 60_000)
    with pytest.raises(RedisUnsuitable, match=f"the format {NEWER}, and") as refused:
        await check(pipe)
    assert "start a newer Holdline, or" in str(refused.value)
    assert "  " not in str(refused.value)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"{FORMAT} ".encode()),
        (f"{FORMAT - 1} 0.0.1", f"{FORMAT} ".encode()),
        (f"{FORMAT} 0.0.1", f"{FORMAT} 0.0.1".encode()),
    ],
)
async def test_a_started_process_raises_the_format_and_renews_it(
    pipe: Pipe, before: str, after: bytes
) -> None:
    if before:
        await pipe.call("SET", NAMES.format, before, "PX", 60_000)
    await check_until_available(pipe, unexpected)
    assert (await pipe.call("GET", NAMES.format)).startswith(after)
    assert await pipe.call("PTTL", NAMES.format) > 60_000
