from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from jobs.errors import Fenced, RedisAway
from jobs.log.codec import decode_event
from jobs.log.items import Place
from jobs.log.log import LogWriter
from jobs.names import Partition
from jobs.record import Status
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from tests.jobs.factories import message_added
from tests.system import wait_until
from tests.worker.harness import Harness, said
from worker import append_interval
from worker.append_interval import AppendInterval
from worker.batch import MAX_BATCH_BYTES, MAX_DELTA_CHARACTERS
from worker.flusher import Flusher
from worker.flusher_state import State

ITEM = "msg_1"
PLACE = Place("output_text", ITEM, 0)
MAX_UNSENT_BYTES = 1_000_000
END = {"type": "response.completed", "response": {}}


class Log:
    """A flusher with its own log, and the outcomes that the flusher reported."""

    def __init__(self, harness: Harness, response_id: str, writer: LogWriter) -> None:
        self.harness = harness
        self.id = response_id
        self.reported: list[str] = []
        self.compacted: list[bytes] = []
        self.interval = AppendInterval(time.monotonic())
        self.flusher = Flusher(
            writer,
            self.interval,
            on_cancel=lambda: self.reported.append("cancel"),
            on_loss=lambda: self.reported.append("loss"),
            compact=self.compact,
            retry_seconds=2.0,
            max_unsent_bytes=MAX_UNSENT_BYTES,
            metrics=harness.context.metrics,
        )

    async def compact(self, entries: list[bytes]) -> None:
        self.compacted = entries

    def state(self) -> State:
        return self.flusher._state

    async def text(self) -> str:
        return said(await self.harness.events(self.id))

    async def deltas(self) -> list[str]:
        return [e["delta"] for e in await self.harness.events(self.id) if "delta" in e]


@pytest.fixture
async def other(redis: Redis) -> AsyncIterator[Pipe]:
    """Yields a connection for the flusher alone, which tests cut and pause."""
    async with Pipe(redis, deadline=1.0) as other:
        yield other


@pytest.fixture
async def log(harness: Harness, other: Pipe) -> AsyncIterator[Log]:
    response_id = await harness.submit()
    grant = await harness.claim()
    log = Log(harness, response_id, LogWriter(other, response_id, grant.claim, grant.length))
    async with log.flusher:
        log.flusher.add(*message_added(ITEM, 0))
        yield log


async def test_text_that_arrives_during_an_append_becomes_one_delta(log: Log) -> None:
    log.flusher.add_text(PLACE, "first ")
    await asyncio.sleep(0)
    for index in range(100):
        log.flusher.add_text(PLACE, f"{index} ")
    await log.flusher.drain()
    assert len(await log.deltas()) <= 2
    assert "first " + "".join(f"{index} " for index in range(100)) == await log.text()


@pytest.fixture
async def busy(log: Log, monkeypatch: pytest.MonkeyPatch) -> Log:
    """Returns a log whose worker is busy, after the first piece of its text.

    The interval is longer than a test, so that tests also hold on a slow machine.
    """
    monkeypatch.setattr(append_interval, "BUSY_SECONDS", 1000.0)
    log.flusher.add_text(PLACE, "first ")
    await log.flusher.drain()
    log.flusher.add_text(PLACE, "second ")  # `drain` ended the interval
    await wait_until(lambda: log.state() is State.IDLE)
    log.interval.busy = True
    return log


async def test_a_calm_worker_appends_each_piece_of_text_at_once(log: Log) -> None:
    for index in range(5):
        log.flusher.add_text(PLACE, f"{index} ")
        await wait_until(lambda: log.state() is State.IDLE)
    assert [f"{index} " for index in range(5)] == await log.deltas()


async def test_a_busy_worker_appends_the_text_of_an_interval_together(
    busy: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(append_interval, "BUSY_SECONDS", 1.0)
    for index in range(3):
        busy.flusher.add_text(PLACE, f"{index} ")
        await asyncio.sleep(0)
    assert busy.state() is State.WAITING
    await wait_until(lambda: busy.state() is State.IDLE)
    assert ["first ", "second ", "0 1 2 "] == await busy.deltas()


async def test_the_first_text_of_a_busy_worker_is_appended_at_once(log: Log) -> None:
    await log.flusher.drain()  # afterwards the connection exists
    log.interval.busy = True
    log.flusher.add_text(PLACE, "first ")
    await asyncio.sleep(0)
    assert log.state() is State.SENDING


async def test_a_busy_worker_appends_other_events_and_the_text_after_them_at_once(
    busy: Log,
) -> None:
    busy.flusher.add_text(PLACE, "more ")
    await asyncio.sleep(0)
    assert busy.state() is State.WAITING
    busy.flusher.add(*message_added("msg_2", 1))
    await asyncio.sleep(0)
    assert busy.state() is State.SENDING
    await wait_until(lambda: busy.state() is State.IDLE)
    busy.flusher.add_text(Place("output_text", "msg_2", 1), "next ")
    await asyncio.sleep(0)
    assert busy.state() is State.SENDING


async def test_a_busy_worker_appends_text_that_fills_a_delta_at_once(busy: Log) -> None:
    for _ in range(2):
        busy.flusher.add_text(PLACE, "x" * MAX_DELTA_CHARACTERS)
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert busy.state() is State.SENDING


async def test_text_that_arrives_during_an_append_waits_in_a_busy_worker(busy: Log) -> None:
    busy.flusher.add(*message_added("msg_2", 1))
    await asyncio.sleep(0)
    assert busy.state() is State.SENDING
    place = Place("output_text", "msg_2", 1)
    busy.flusher.add_text(place, "a ")  # the first text is due at once
    await wait_until(lambda: busy.state() is State.IDLE)
    busy.flusher.add_text(place, "b ")
    await asyncio.sleep(0)
    assert busy.state() is State.WAITING


async def test_the_end_of_a_response_does_not_wait_for_the_interval(busy: Log) -> None:
    busy.flusher.add_text(PLACE, "last ")
    await asyncio.sleep(0)
    timer = busy.flusher._timer
    await busy.flusher.finish(Status.COMPLETED, END, retention_ms=1000)
    assert timer is not None
    assert timer.cancelled()
    assert "first second last " == await busy.text()


async def test_a_flusher_that_is_closed_during_the_interval_appends_nothing_more(
    busy: Log,
) -> None:
    busy.flusher.add_text(PLACE, "lost ")
    await asyncio.sleep(0)
    timer = busy.flusher._timer
    await busy.flusher.__aexit__(None, None, None)
    assert timer is not None
    assert timer.cancelled()
    assert "first second " == await busy.text()


async def test_appends_are_counted_with_their_pieces_and_the_time_of_their_reply(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    await wait_until(lambda: log.state() is State.IDLE)
    counted: list[tuple[int, float]] = []
    monkeypatch.setattr(
        log.interval, "count", lambda pieces, waited, _: counted.append((pieces, waited))
    )
    for index in range(4):
        log.flusher.add_text(PLACE, f"{index} ")
    await wait_until(lambda: log.state() is State.IDLE)
    [(pieces, waited)] = counted
    assert 4 == pieces
    assert 0 < waited < 10


async def test_deltas_are_bounded_and_split_between_characters(log: Log) -> None:
    text = "😀" * (2 * MAX_DELTA_CHARACTERS + 1)
    log.flusher.add_text(PLACE, text)
    await log.flusher.drain()
    assert [MAX_DELTA_CHARACTERS, MAX_DELTA_CHARACTERS, 1] == [len(d) for d in await log.deltas()]
    assert text == await log.text()


async def test_an_answer_larger_than_a_batch_is_written_up_to_its_last_event(log: Log) -> None:
    text = "x" * (3 * MAX_BATCH_BYTES)
    log.flusher.add_text(PLACE, text)
    await log.flusher.finish(Status.COMPLETED, END, retention_ms=1000)
    events = await log.harness.events(log.id)
    assert "response.completed" == events[-1]["type"]
    assert log.compacted == (await log.harness.view(log.id)).entries[-len(log.compacted) :]
    assert text == said(events)


async def test_a_full_flusher_recovers_after_an_outage_of_redis(log: Log, pipe: Pipe) -> None:
    await log.flusher.drain()
    await pipe.call("CLIENT", "PAUSE", "600", "WRITE")
    for _ in range(11):
        log.flusher.add_text(PLACE, "x" * (MAX_UNSENT_BYTES // 10))
    assert log.flusher.full
    await log.flusher.room()
    await log.flusher.drain()
    assert 11 * (MAX_UNSENT_BYTES // 10) == len(await log.text())


async def test_lost_connections_neither_lose_nor_repeat_text(log: Log, pipe: Pipe) -> None:
    losses = 0

    async def cut() -> None:
        """Closes each connection after its first append.

        On a busy machine, fixed intervals could close every connection before its first append.
        """
        nonlocal losses
        length = 0
        while True:
            grown = await pipe.call("LLEN", Partition(0).log(log.id))
            if grown > length:
                await pipe.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                length, losses = grown, losses + 1
            await asyncio.sleep(0.001)  # the polling interval

    cutting = asyncio.create_task(cut())
    for index in range(300):
        log.flusher.add_text(PLACE, f"{index} ")
        await asyncio.sleep(0.001)  # the pace of the model's tokens
    cutting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await cutting
    await log.flusher.finish(Status.COMPLETED, END, retention_ms=1000)
    assert "".join(f"{index} " for index in range(300)) == await log.text()
    assert [] == log.reported
    assert losses > 2


async def test_an_unavailable_redis_is_retried_and_then_reported(log: Log, pipe: Pipe) -> None:
    await log.flusher.drain()
    await pipe.call("CLIENT", "PAUSE", "4000", "WRITE")
    try:
        log.flusher.add_text(PLACE, "x")
        await wait_until(lambda: log.reported)
        assert ["loss"] == log.reported
        with pytest.raises(RedisAway):
            await log.flusher.drain()
    finally:
        await pipe.call("CLIENT", "UNPAUSE")


async def test_a_lost_claim_is_reported_and_ends_the_wait_for_room(log: Log, pipe: Pipe) -> None:
    await log.flusher.drain()
    await pipe.call("HSET", Partition(0).job(log.id), "claim", "another")
    log.flusher.add_text(PLACE, "x" * (MAX_UNSENT_BYTES + 1))
    await log.flusher.room()
    await wait_until(lambda: log.reported)
    with pytest.raises(Fenced):
        log.flusher.check()
    with pytest.raises(Fenced):
        await log.flusher.finish(Status.COMPLETED, END, retention_ms=1000)
    assert "" == await log.text()


async def test_an_unexpected_error_reaches_the_producer_and_unblocks_it(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.flusher.drain()

    async def broken(entries: list[bytes], _: bytes) -> bool:
        raise ValueError(len(entries))

    monkeypatch.setattr(log.flusher._writer, "begin", lambda *_: None)
    monkeypatch.setattr(log.flusher._writer, "append", broken)
    log.flusher.add_text(PLACE, "x" * (MAX_UNSENT_BYTES + 1))
    await log.flusher.room()
    assert ["loss"] == log.reported
    with pytest.raises(ValueError, match=r"\d"):
        await log.flusher.drain()


async def test_a_cancel_is_reported_with_the_next_append(log: Log) -> None:
    await log.flusher.drain()
    await log.harness.context.queue.cancel(log.id, 0, [])
    log.flusher.add_text(PLACE, "x")
    await wait_until(lambda: log.reported)
    assert ["cancel"] == log.reported


async def test_a_finish_whose_reply_is_lost_ends_the_log_once(
    log: Log, other: Pipe, pipe: Pipe
) -> None:
    await log.flusher.finish(Status.COMPLETED, END, retention_ms=1000)
    before = await log.harness.view(log.id)
    writer = log.flusher._writer
    writer.length -= 1
    await writer.finish(Status.COMPLETED, before.entries[-1:], retention_ms=1000)
    assert before == await log.harness.view(log.id)
    assert "response.completed" == decode_event(before.entries[-1])["type"]
