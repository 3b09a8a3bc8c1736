"""Tests followers of logs in a real Redis that join at different times and lose subscriptions."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.errors import RedisAway, UnknownResponse
from jobs.ids import new_response_id
from jobs.log.codec import encode_event
from jobs.log.log import LogWriter
from jobs.log.view import View
from jobs.names import Partition
from jobs.queue import Queue
from jobs.record import Job, Status
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from server.live.feed import Feed
from server.live.relay import Relay
from server.metrics import Metrics
from tests.jobs.factories import SETTINGS, claimed, end_entry, submitted, text_delta
from tests.server.factories import DELTAS, RecordingSink
from tests.subscriptions import channels_of
from tests.system import wait_until

pytestmark = pytest.mark.usefixtures("quick_retries")


@pytest.fixture
async def relay(redis: Redis, pipe: Pipe) -> AsyncIterator[Relay]:
    async with Relay(redis, pipe, Queue(pipe, SETTINGS), Metrics(), doubt_seconds=60) as relay:
        yield relay


async def running(pipe: Pipe) -> tuple[Job, LogWriter]:
    job, grant = await claimed(Queue(pipe, SETTINGS))
    return job, LogWriter(pipe, job.id, grant.claim, grant.length)


def listening_too_late(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Reverses the correct order: reads the log first and subscribes afterwards."""
    listen, read = relay.subscriber.subscribe, relay.read
    there = asyncio.Event()
    later: list[Callable[[], None]] = []

    def listen_later(
        channel: str, notify: Callable[[bytes], None], gap: Callable[[], None]
    ) -> None:
        later.append(lambda: listen(channel, notify, there.set))
        gap()

    async def read_first(response_id: str, start: int, least: int, viewer: str) -> View:
        view = await read(response_id, start, least, viewer)
        while later:
            later.pop()()
        return view

    monkeypatch.setattr(relay.subscriber, "subscribe", listen_later)
    monkeypatch.setattr(relay, "read", read_first)
    return there


@pytest.mark.parametrize("order", ["subscribe, then read", "read, then subscribe"])
async def test_a_follower_must_subscribe_before_it_reads(
    relay: Relay, pipe: Pipe, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    job, writer = await running(pipe)
    read = relay.read

    async def written_just_after(response_id: str, start: int, least: int, viewer: str) -> View:
        view = await read(response_id, start, least, viewer)
        if writer.length == 2:
            await writer.append(DELTAS[:1])
        return view

    monkeypatch.setattr(relay, "read", written_just_after)
    swapped = order.startswith("read")
    there = listening_too_late(relay, monkeypatch) if swapped else None
    sink = RecordingSink()
    follower = relay.follow(job.id, "public", -1, sink)
    if there is not None:
        # The follower now has its subscription. Notifications of earlier entries are lost.
        await there.wait()
    await wait_until(lambda: follower._live and writer.length == 3)

    assert ([0, 1] if swapped else [0, 1, 2]) == sink.numbers
    follower.leave()


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_hundred_followers_that_join_at_random_times_receive_the_whole_answer(
    relay: Relay, pipe: Pipe, seed: int
) -> None:
    rng = random.Random(seed)
    job, writer = await running(pipe)
    joins = sorted(rng.randrange(200) for _ in range(100))
    sinks = []
    for turn in range(200):
        for _ in range(joins.count(turn)):
            sink = RecordingSink()
            sinks.append(sink)
            relay.follow(job.id, "public", -1, sink)
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
        await writer.append([DELTAS[turn % 100]] * rng.randint(1, 3))
    length = writer.length
    await writer.finish(Status.COMPLETED, [end_entry(job)], retention_ms=60_000)
    await wait_until(lambda: all(sink.ended_times for sink in sinks))

    assert 100 == len(sinks)
    assert {tuple(range(length + 1))} == {tuple(sink.numbers) for sink in sinks}
    assert 1 == len({tuple(frame.json for frame in sink.frames) for sink in sinks})


async def test_forty_followers_with_repeatedly_killed_subscriptions_receive_the_whole_answer(
    relay: Relay, pipe: Pipe
) -> None:
    rng = random.Random(4)
    job, writer = await running(pipe)
    sinks = [RecordingSink() for _ in range(40)]
    for turn, sink in enumerate(sinks):
        relay.follow(job.id, "public", -1, sink)
        await writer.append([DELTAS[turn]])
        if rng.random() < 0.2:
            await pipe.call("CLIENT", "KILL", "TYPE", "pubsub")
    await writer.finish(Status.COMPLETED, [end_entry(job)], retention_ms=60_000)
    await wait_until(lambda: all(sink.ended_times for sink in sinks))

    assert {tuple(range(writer.length))} == {tuple(sink.numbers) for sink in sinks}


async def test_a_follower_receives_entries_as_large_as_a_whole_read(
    relay: Relay, pipe: Pipe
) -> None:
    job, writer = await running(pipe)
    large = [encode_event(text_delta("msg_1", 0, letter * 400_000)) for letter in "abc"]
    for entry in large:
        await writer.append([entry])
    await writer.append(DELTAS[:1])
    sink = RecordingSink()
    follower = relay.follow(job.id, "public", -1, sink)
    await wait_until(lambda: len(sink.frames) == 6)
    await writer.append(large[:1])
    await writer.append(large[1:2])
    await wait_until(lambda: len(sink.frames) == 8)

    assert list(range(8)) == sink.numbers
    follower.leave()


async def test_a_waiting_response_is_followed_from_its_first_event(
    relay: Relay, pipe: Pipe
) -> None:
    job = await submitted(Queue(pipe, SETTINGS))
    sink = RecordingSink()
    follower = relay.follow(job.id, "public", -1, sink)
    await wait_until(lambda: len(sink.frames) == 2)
    await Queue(pipe, SETTINGS).delete(job.id)
    await wait_until(lambda: sink.ended_times)

    assert sink.problem is not None
    assert (410, True) == (sink.problem.status, follower.done)


async def test_a_nonexistent_response_is_reported_as_unknown(relay: Relay) -> None:
    sink = RecordingSink()
    relay.follow(new_response_id(0), "public", -1, sink)
    await wait_until(lambda: sink.ended_times)

    assert sink.problem is not None
    assert 404 == sink.problem.status
    with pytest.raises(UnknownResponse):
        relay.follow("resp_{0}", "public", -1, sink)


async def test_the_last_follower_of_a_log_receives_its_notifications(
    relay: Relay, pipe: Pipe
) -> None:
    job, writer = await running(pipe)
    sinks = [RecordingSink() for _ in range(3)]
    one, other, left = (relay.follow(job.id, "public", -1, sink) for sink in sinks)
    await wait_until(lambda: left._live and other._live and one._live)
    for follower in (one, other):
        follower.leave()
        await writer.append([DELTAS[0]])
    await writer.finish(Status.COMPLETED, [end_entry(job)], retention_ms=60_000)
    await wait_until(lambda: left.done)

    assert list(range(writer.length)) == sinks[2].numbers


async def test_a_feed_without_followers_leaves_nothing_behind(relay: Relay, pipe: Pipe) -> None:
    job, writer = await running(pipe)
    sinks = [RecordingSink() for _ in range(20)]
    followers = [relay.follow(job.id, "public", -1, sink) for sink in sinks]
    await wait_until(lambda: all(sink.frames for sink in sinks))
    for follower in followers[:10]:
        follower.leave()
    await writer.finish(Status.COMPLETED, [end_entry(job)], retention_ms=60_000)
    await wait_until(lambda: all(sink.ended_times for sink in sinks[10:]))

    assert {} == relay._feeds
    assert set() == channels_of(relay.subscriber)
    channels = await pipe.call("PUBSUB", "SHARDCHANNELS", "holdline:*notifications*")
    assert [] == channels


async def test_an_unavailable_partition_hides_no_loss_in_another(
    relay: Relay, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _ = await running(pipe)
    relay.follow(job.id, "public", -1, RecordingSink())
    feed = relay._feeds[job.id]
    await wait_until(lambda: feed.confirmed and relay._epochs)
    call = Pipe.call

    async def called(self: Pipe, *command: Any, at: str = "") -> Any:
        if Partition(1).epoch in command:
            raise RedisAway("away")
        return await call(self, *command, at=at)

    monkeypatch.setattr(Pipe, "call", called)
    monkeypatch.setitem(relay._feeds, "another", SimpleNamespace(partition=1, confirmed=False))
    gaps: list[Feed] = []

    def noted(lost: Feed) -> None:
        gaps.append(lost)

    monkeypatch.setattr(Feed, "gap", noted)
    await relay._look_for_loss()
    assert [] == gaps
    await pipe.call("DEL", Partition(0).epoch)  # as if Redis had been emptied
    await relay._look_for_loss()
    assert [feed] == gaps
    monkeypatch.undo()
