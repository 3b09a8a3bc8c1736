"""Tests that compacted logs read the same and that only the writer that ended a log compacts it."""

from __future__ import annotations

import pytest

from jobs.errors import Fenced, Undecodable
from jobs.log.codec import encode_event
from jobs.log.events import submitted as opening_of
from jobs.log.log import LogWriter, read, read_all
from jobs.log.view import View
from jobs.queue import Queue
from jobs.record import Job, Status
from jobs.redis.pipe import Pipe
from jobs.replies import Grant
from tests.jobs.factories import NAMES, SETTINGS, a_job, claimed, ending, new_claim, said, saying

RETENTION = 60_000


@pytest.fixture
def queue(pipe: Pipe) -> Queue:
    return Queue(pipe, SETTINGS)


def head_of(job: Job) -> list[bytes]:
    return list(map(encode_event, opening_of(job)))


class Ended:
    """A finished answer whose log is not yet compacted."""

    def __init__(self, pipe: Pipe, job: Job, grant: Grant, pieces: int) -> None:
        said_so = [f"piece {number} " for number in range(pieces)]
        text = "".join(said_so)
        events = [*saying(job, 1, 0, said_so), *said(job, 1, 0, text), ending(job, text=text)]
        self.pipe = pipe
        self.job = job
        self.writer = LogWriter(pipe, job.id, grant.claim, grant.length)
        self.head = head_of(job)
        self.rest = [encode_event(event) for event in events]

    async def end(self) -> Ended:
        await self.writer.append(self.rest[:-1])
        await self.writer.finish(Status.COMPLETED, self.rest[-1:], retention_ms=RETENTION)
        return self

    async def compact(self) -> None:
        await self.writer.compact(self.head, self.rest)

    async def is_compacted(self) -> bool:
        return not await self.pipe.call("EXISTS", NAMES.log(self.job.id))

    async def view(self, start: int = 0, least: int = 1) -> View:
        return await read(self.pipe, self.job.id, start, min_entries=least)


async def ended(pipe: Pipe, queue: Queue, pieces: int = 40) -> Ended:
    return await Ended(pipe, *await claimed(queue), pieces).end()


async def test_a_compacted_log_reads_the_same_from_every_index(pipe: Pipe, queue: Queue) -> None:
    answer = await ended(pipe, queue)
    log = answer.head + answer.rest
    before = [await answer.view(start) for start in range(len(log) + 2)]

    await answer.compact()

    assert await answer.is_compacted()
    assert before == [await answer.view(start) for start in range(len(log) + 2)]
    assert log == (await read_all(pipe, answer.job.id)).entries
    assert [] == (await read(pipe, answer.job.id, 0, max_entries=0)).entries


async def test_a_long_compacted_log_is_read_in_several_steps(pipe: Pipe, queue: Queue) -> None:
    answer = await ended(pipe, queue, 4_500)
    await answer.compact()
    log = answer.head + answer.rest

    assert log == (await read_all(pipe, answer.job.id)).entries
    assert log[1_990:2_000] == (await answer.view(1_990)).entries
    # Read a block's last entry and the next entry, as a follower does that lacks only the next one.
    assert log[1_999:3_999] == (await answer.view(1_999, least=2)).entries
    assert len(log) == (await answer.view(4_499)).length


async def test_a_compacted_log_takes_less_memory(pipe: Pipe, queue: Queue) -> None:
    answer = await ended(pipe, queue)
    names = [NAMES.job(answer.job.id), NAMES.log(answer.job.id)]
    before = sum([await pipe.call("MEMORY", "USAGE", name) for name in names])
    await answer.compact()
    assert await pipe.call("MEMORY", "USAGE", names[0]) < before / 2


async def test_compacting_and_ending_may_be_repeated(pipe: Pipe, queue: Queue) -> None:
    answer = await ended(pipe, queue)
    writer, length = answer.writer, answer.writer.length
    for _ in range(3):
        await answer.compact()
        # Repeat the final append, as if its reply had been lost.
        writer.length = length - 1
        await writer.finish(Status.COMPLETED, answer.rest[-1:], retention_ms=RETENTION)
    assert length == writer.length
    assert answer.head + answer.rest == (await answer.view()).entries


async def test_nothing_is_appended_to_a_compacted_log(pipe: Pipe, queue: Queue) -> None:
    answer = await ended(pipe, queue)
    await answer.compact()
    for expected in (0, answer.writer.length):
        answer.writer.length = expected
        with pytest.raises(Fenced):
            await answer.writer.append([b"more"])
        with pytest.raises(Fenced):
            await answer.writer.finish(Status.COMPLETED, [b"end"], retention_ms=RETENTION)
    assert await queue.cancel(answer.job.id, 0, [])
    assert answer.head + answer.rest == (await answer.view()).entries


async def test_only_the_writer_that_ended_a_log_compacts_it(pipe: Pipe, queue: Queue) -> None:
    answer = await ended(pipe, queue)
    await LogWriter(pipe, answer.job.id, "somebody", 0).compact(answer.head, answer.rest)
    assert not await answer.is_compacted()


async def test_a_running_log_is_not_compacted(pipe: Pipe, queue: Queue) -> None:
    job, grant = await claimed(queue)
    writer = LogWriter(pipe, job.id, grant.claim, grant.length)
    await writer.compact(head_of(job), [])
    assert 2 == await pipe.call("LLEN", NAMES.log(job.id))


async def test_a_log_with_another_head_or_length_is_not_compacted(pipe: Pipe, queue: Queue) -> None:
    answer = await ended(pipe, queue)
    other = head_of(a_job())
    await answer.writer.compact(other, answer.rest)
    await answer.writer.compact(answer.head, answer.rest[1:])
    assert not await answer.is_compacted()
    assert answer.head + answer.rest == (await answer.view()).entries


async def test_a_compacted_log_can_be_deleted_and_expires(pipe: Pipe, queue: Queue) -> None:
    answer = await ended(pipe, queue)
    await answer.compact()
    left = await pipe.call("PTTL", NAMES.job(answer.job.id))
    assert RETENTION - 10_000 < left <= RETENTION
    await queue.delete(answer.job.id)
    assert [] == await pipe.call("KEYS", f"*{answer.job.id}*")


async def test_a_repeated_submit_returns_the_compacted_response(pipe: Pipe, queue: Queue) -> None:
    answer = await ended(pipe, queue)
    await answer.compact()
    await queue.submit(answer.job, opening_of(answer.job))
    assert await answer.is_compacted()
    assert [] == await queue.leases.claim(0, new_claim(), 1)


async def test_a_damaged_block_raises_an_error_when_read(pipe: Pipe, queue: Queue) -> None:
    answer = await ended(pipe, queue)
    await answer.compact()
    await pipe.call("HSET", NAMES.job(answer.job.id), "block0", b"garbage")
    with pytest.raises(Undecodable):
        await answer.view()
