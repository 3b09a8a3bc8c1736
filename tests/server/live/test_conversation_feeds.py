"""Tests followers of conversations in a real Redis that are slow or lose notifications."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from jobs.ids import new_conversation_id
from jobs.queue import Queue
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from server.api.problem import Problem
from server.api.shared_message import SharedMessage
from server.live.conversation_feed import ConversationFeeds
from server.live.conversation_follower import ConversationFollower
from server.live.relay import Relay
from server.metrics import Metrics
from tests.jobs.factories import NAMES, SETTINGS
from tests.system import wait_until

pytestmark = pytest.mark.usefixtures("quick_retries")
ANNA = "acme/anna"


class Sink:
    """A device: records what it receives."""

    def __init__(self) -> None:
        self.writable = True
        self.messages: list[dict[str, Any]] = []
        self.problems: list[Problem | None] = []
        self.shared: list[SharedMessage] = []

    def show(
        self, follower: ConversationFollower, message: SharedMessage, running: list[str]
    ) -> None:
        del follower, running
        assert self.writable
        self.shared.append(message)
        self.messages.append(message.message)

    def ended(self, follower: ConversationFollower, problem: Problem | None) -> None:
        del follower
        self.problems.append(problem)

    @property
    def numbers(self) -> list[int]:
        """The numbers of the events since the last reset."""
        found: list[int] = []
        for message in self.messages:
            if message["type"] != "holdline:following":
                found.append(message["sequence_number"])
            elif message["reset"]:
                found = []
        return found


class Place:
    """A conversation, and the feeds of a server."""

    def __init__(self, relay: Relay, queue: Queue) -> None:
        self.feeds = ConversationFeeds(relay, queue.feeds)
        self.store = queue.conversations
        self.id = new_conversation_id(range(1), ANNA, ANNA, None)
        self.titles = 0

    async def create(self) -> None:
        await self.store.create(self.id, ANNA, ANNA, 1, {}, [])

    async def update(self, count: int = 1) -> None:
        for _ in range(count):
            self.titles += 1
            await self.store.update(self.id, ANNA, {"title": str(self.titles)})

    def follow(self, sink: Sink, after: int | None = -1, *, own: bool = False) -> Any:
        id_ = None if own else self.id
        return self.feeds.follow(id_, ANNA, ANNA, sink, after=after, event_id="")


@pytest.fixture
async def place(redis: Redis, pipe: Pipe) -> AsyncIterator[Place]:
    queue = Queue(pipe, SETTINGS)
    async with Relay(redis, pipe, queue, Metrics(), doubt_seconds=60) as relay:
        place = Place(relay, queue)
        await place.create()
        yield place


async def test_a_slow_device_holds_no_events_and_gets_them_later(place: Place) -> None:
    slow, fast = Sink(), Sink()
    followers = [place.follow(slow), place.follow(fast)]
    await wait_until(lambda: slow.numbers == fast.numbers == [0])
    slow.writable = False
    await place.update(150)
    await wait_until(lambda: fast.numbers == [*range(151)])
    assert [0] == slow.numbers
    slow.writable = True
    followers[0].catch_up_if_behind()
    await wait_until(lambda: slow.numbers == [*range(151)])
    for follower in followers:
        follower.leave()
    assert {} == place.feeds._feeds


async def test_lost_notifications_delay_events_only(place: Place, pipe: Pipe) -> None:
    sink = Sink()
    place.follow(sink)
    await wait_until(lambda: sink.numbers == [0])
    await pipe.call("CLIENT", "KILL", "TYPE", "pubsub")
    await place.update(3)
    await wait_until(lambda: sink.numbers == [0, 1, 2, 3])


@pytest.mark.parametrize("more", [1, 2, 4])
async def test_a_feed_that_lost_its_end_and_grew_again_is_reset(
    place: Place, pipe: Pipe, more: int
) -> None:
    sink = Sink()
    place.follow(sink)
    await place.update(3)
    earlier = await pipe.call("DUMP", NAMES.feed(place.id))
    await place.update(2)
    await wait_until(lambda: sink.numbers == [*range(6)])
    await pipe.call("RESTORE", NAMES.feed(place.id), 60_000, earlier, "REPLACE")
    await place.update(more)
    await wait_until(lambda: any(one.get("reset") for one in sink.messages))
    await wait_until(lambda: sink.numbers == [*range(4 + more)])


async def test_an_event_that_is_replaced_during_a_read_is_shown_at_once(
    place: Place, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Sink()
    follower = place.follow(sink)
    await place.update(3)
    earlier = await pipe.call("DUMP", NAMES.feed(place.id))
    await place.update(2)
    await wait_until(lambda: sink.numbers == [*range(6)])
    look, reached, returns = follower.feed.look, asyncio.Event(), asyncio.Event()

    async def late(*where: Any, **how: Any) -> Any:
        found = await look(*where, **how)
        reached.set()
        await returns.wait()
        return found

    monkeypatch.setattr(follower.feed, "look", late)
    follower.catch_up()
    await reached.wait()
    await pipe.call("RESTORE", NAMES.feed(place.id), 60_000, earlier, "REPLACE")
    await place.update(2)
    await wait_until(lambda: follower._heard == 5)
    returns.set()
    await wait_until(lambda: any(one.get("reset") for one in sink.messages))
    await wait_until(lambda: sink.numbers == [*range(6)])


async def test_an_emptied_redis_ends_the_conversation_and_empties_the_list(
    place: Place, pipe: Pipe
) -> None:
    sink, own = Sink(), Sink()
    place.follow(sink)
    place.follow(own, None, own=True)
    await wait_until(lambda: sink.messages and own.messages)
    assert [place.id] == [one["id"] for one in own.messages[0]["conversations"]]
    await pipe.call("FLUSHALL")
    await wait_until(lambda: sink.problems == [None])
    await wait_until(lambda: own.messages[-1].get("reset"))
    assert [] == own.messages[-1]["conversations"]


async def test_a_device_that_is_behind_a_trimmed_list_gets_the_list_again(place: Place) -> None:
    own, slow = Sink(), Sink()
    follower = place.follow(slow, None, own=True)
    await wait_until(lambda: slow.messages)
    slow.writable = False
    await place.update(1_010)
    slow.writable = True
    follower.catch_up_if_behind()
    await wait_until(lambda: slow.messages[-1].get("reset"))
    place.follow(own, 0, own=True)
    await wait_until(lambda: own.messages)
    assert own.messages[0]["reset"]
    await place.update()
    await wait_until(lambda: own.numbers == slow.numbers == [1_011])


async def test_followers_share_reads_and_encodings(place: Place, pipe: Pipe) -> None:
    sinks = [Sink() for _ in range(1_000)]
    for sink in sinks:
        place.follow(sink, None)
    await wait_until(lambda: all(sink.messages for sink in sinks))
    before = await calls_of(pipe)
    await place.update()
    await wait_until(lambda: all(sink.numbers == [1] for sink in sinks))
    assert 1 == len({id(sink.shared[-1]) for sink in sinks})
    assert await calls_of(pipe) - before < 20


async def calls_of(pipe: Pipe) -> int:
    """Returns the number of scripts that Redis has run."""
    stats = (await pipe.call("INFO", "commandstats")).decode()
    [line] = [one for one in stats.splitlines() if one.startswith("cmdstat_evalsha:")]
    return int(line.partition("calls=")[2].partition(",")[0])


async def test_items_of_an_older_version_reach_the_devices(place: Place, pipe: Pipe) -> None:
    sink = Sink()
    follower = place.follow(sink)
    await wait_until(lambda: sink.numbers == [0])
    entry = msgspec.msgpack.encode({"id": "msg_1", "type": "message"})
    await pipe.call("RPUSH", NAMES.items(place.id), entry)
    await pipe.call("PEXPIRE", NAMES.items(place.id), 60_000)
    follower.catch_up()  # as after a while without notifications
    await wait_until(lambda: sink.numbers == [0, 1])
    assert [{"id": "msg_1", "type": "message"}] == sink.messages[-1]["items"]
