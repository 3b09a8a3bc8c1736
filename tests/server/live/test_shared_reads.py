"""Tests that followers at the same position of a log share one read and miss no entry."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from jobs.ids import item_id
from jobs.log.codec import encode_event
from jobs.log.log import LogWriter
from jobs.log.view import View
from jobs.queue import Queue
from jobs.record import Job, Status
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from server.live.relay import Relay
from server.metrics import Metrics
from tests.jobs.factories import SETTINGS, claimed, end_entry, saying, text_delta
from tests.server.factories import RecordingSink
from tests.system import wait_until

FOLLOWERS = 50


@pytest.fixture
async def relay(redis: Redis, pipe: Pipe) -> AsyncIterator[Relay]:
    async with Relay(redis, pipe, Queue(pipe, SETTINGS), Metrics(), doubt_seconds=60) as relay:
        yield relay


class Reads:
    """Records the reads of a relay and holds their replies until the test releases them."""

    def __init__(self, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
        self._read = relay.read
        self.sent = 0
        self.under_way: Counter[tuple[int, int]] = Counter()
        self.most_at_once = 0
        self.back = asyncio.Event()
        self.back.set()
        monkeypatch.setattr(relay, "read", self.read)

    async def read(self, response_id: str, start: int, least: int, viewer: str) -> View:
        self.sent += 1
        self.under_way[start, least] += 1
        self.most_at_once = max(self.most_at_once, self.under_way[start, least])
        view = await self._read(response_id, start, least, viewer)
        await self.back.wait()
        self.under_way[start, least] -= 1
        return view


async def begun(pipe: Pipe, pieces: int) -> tuple[Job, LogWriter]:
    job, grant = await claimed(Queue(pipe, SETTINGS))
    writer = LogWriter(pipe, job.id, grant.claim, grant.length)
    events = saying(job, 1, 0, [f"{number} " for number in range(pieces)])
    await writer.append([encode_event(event) for event in events])
    return job, writer


def followed(relay: Relay, job: Job) -> list[RecordingSink]:
    sinks = [RecordingSink() for _ in range(FOLLOWERS)]
    for sink in sinks:
        relay.follow(job.id, "public", -1, sink)
    return sinks


async def test_concurrent_resumes_share_one_read_and_its_events(
    relay: Relay, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, writer = await begun(pipe, 100)
    reads = Reads(relay, monkeypatch)
    sinks = followed(relay, job)
    await wait_until(lambda: all(sink.numbers == list(range(writer.length)) for sink in sinks))
    assert 1 == reads.sent
    # All followers receive the same frame objects, so a frame is encoded only once.
    assert all(sink.frames[7] is sinks[0].frames[7] for sink in sinks)
    await writer.finish(Status.COMPLETED, [end_entry(job)], retention_ms=60_000)
    await wait_until(lambda: all(sink.ended_times for sink in sinks))


async def test_a_follower_that_knows_of_newer_entries_does_not_join_an_earlier_read(
    relay: Relay, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, writer = await begun(pipe, 3)
    reads = Reads(relay, monkeypatch)
    reads.back.clear()
    first = followed(relay, job)
    await wait_until(lambda: reads.sent == 1)
    delta = text_delta(item_id("msg", job.id, 1, 0), 0, "more")
    await writer.append([encode_event(delta)])
    late = followed(relay, job)
    for _ in range(5):
        await asyncio.sleep(0)
    assert 1 == reads.sent
    reads.back.set()
    await wait_until(
        lambda: all(sink.numbers == list(range(writer.length)) for sink in first + late)
    )
    assert 1 == reads.most_at_once
    assert reads.sent <= 4
    await writer.finish(Status.COMPLETED, [end_entry(job)], retention_ms=60_000)
    await wait_until(lambda: all(sink.ended_times == 1 for sink in first + late))


async def test_a_follower_that_leaves_does_not_cancel_the_shared_read(
    relay: Relay, pipe: Pipe
) -> None:
    job, writer = await begun(pipe, 3)
    one, other = RecordingSink(), RecordingSink()
    leaving = relay.follow(job.id, "public", -1, one)
    relay.follow(job.id, "public", -1, other)
    await wait_until(lambda: leaving.feed.confirmed)
    leaving.leave()
    await wait_until(lambda: other.numbers == list(range(writer.length)))
    await writer.finish(Status.COMPLETED, [end_entry(job)], retention_ms=60_000)
    await wait_until(lambda: other.ended_times)
