"""Who follows what: one bell for the process, one feed a followed response.

A feed turns each ringing entry into bytes once, however many follow it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from typing import TYPE_CHECKING, Any, Self

import structlog

from jobs.bell import Bell
from jobs.codec import Deleted, Grown, Waits, decode_bell
from jobs.errors import RedisTrouble, Undecodable
from jobs.keys import Partition, partition_of, tenant_of
from jobs.log import View, read

from .expected import Expected
from .follower import Follower, Sink
from .wire import Frame, frame

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from jobs.connect import Redis
    from jobs.pipe import Pipe
    from jobs.queue import Queue

    from .metrics import Metrics

MOST_READS = 64
TICK_SECONDS = 1.0
EPOCH_TTL_MS = 30 * 24 * 3600 * 1000

log = structlog.get_logger()


# A look at a response, and the events of its entries. All who asked share it: nobody alters it.
Look = tuple[View, list[Frame]]
# start, least, viewer
_Question = tuple[int, int, str]


def framed(first: int, entries: list[bytes]) -> list[Frame]:
    """The events of entries, the first of which is at index `first`. Raises: Undecodable."""
    if len(entries) == 1:  # nearly always, and a comprehension is a call of its own
        return [frame(first, entries[0])]
    return [frame(number, entry) for number, entry in enumerate(entries, first)]


class Feed:
    """The followers of one response."""

    __slots__ = (
        "_asked",
        "_relay",
        "_under_way",
        "channel",
        "confirmed",
        "expected",
        "followers",
        "lane",
        "number",
        "only",
        "owner",
        "partition",
        "rang",
        "reason",
        "response_id",
        "told",
    )

    def __init__(self, relay: Relay, response_id: str) -> None:
        self._relay = relay
        self.response_id = response_id
        self.owner = ""
        self.partition = partition_of(response_id)
        self.channel = Partition(self.partition).bell(response_id)
        self.followers: set[Follower] = set()
        self.only: Follower | None = None  # where there is one, as nearly always
        self.expected: Expected | None = None
        self.confirmed = False
        self.number = 0
        self.lane = ""
        self.reason = ""
        self.told: tuple[int | None, float | None, str] | None = None
        self.rang = time.monotonic()
        # Reads that are not yet sent, which anybody may join, and those that are under way.
        self._asked: dict[_Question, asyncio.Task[Look]] = {}
        self._under_way: dict[_Question, asyncio.Task[Look]] = {}

    @property
    def needed(self) -> bool:
        """True while somebody follows the response, or is about to."""
        return bool(self.followers) or (self.expected is not None and self.expected.open)

    @property
    def quiet(self) -> bool:
        """True when nothing has rung for a while."""
        return time.monotonic() - self.rang > TICK_SECONDS

    def ring(self, payload: bytes) -> None:
        """Something was published about the response."""
        self.rang = time.monotonic()
        try:
            bell = decode_bell(payload)
            if isinstance(bell, tuple):  # each event of each answer; the rest is rare
                first, entries = bell
                if first:  # those at 0 are of its submission: it waits
                    self.number = 0
                if (cipher := self._relay.cipher) is not None:
                    entries = cipher.decrypted(self.response_id, first, entries)
                frames = framed(first, entries)
                if self.expected is not None:
                    self.expected.ring(first, frames)
                if self.only is not None:
                    self.only.ring(first, frames)
                else:
                    for follower in list(self.followers):
                        follower.ring(first, frames)
                return
            if self.expected is not None:
                self.expected.doubt()
            match bell:
                case Grown(length):
                    for follower in list(self.followers):
                        follower.grown(length)
                case Waits(number, delay_ms, reason):
                    self._wait(number, delay_ms, reason)
                case Deleted():
                    self.gap()
        except Undecodable:
            log.warning("bell not understood", response_id=self.response_id)
            self.gap()

    def gap(self) -> None:
        """The bell is confirmed, and anything may have been missed until now."""
        self.confirmed = True
        self.rang = time.monotonic()
        if self.expected is not None:
            self.expected.gap()
        for follower in list(self.followers):
            follower.catch_up()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs a follower's read as a task that the relay awaits at its end."""
        return self._relay.spawn(work)

    async def read(self, start: int, *, least: int, viewer: str) -> Look:
        """The response from index `start` on, and the events of its entries.

        Many followers at one place, as after a reconnect, are one read and one decoding. A read
        that was sent is not joined: who asks now may have heard of what it does not find. It is
        waited for, so that there is one at a time. Nothing is sent where all of the log was heard.

        Raises: UnknownResponse, Undecodable, RedisTrouble.
        """
        if start == 0 and (expected := self.expected) is not None:
            look = await expected.look()
            self.expected = None
            if look is not None:
                self._learn(look[0])
                return look
        question = start, least, viewer
        asked = self._asked.get(question)
        if asked is None:
            asked = self._asked[question] = self._relay.share(self._look(question))
        return await asyncio.shield(asked)

    async def _look(self, question: _Question) -> Look:
        mine = self._asked[question]
        while (before := self._under_way.get(question)) is not None:
            await asyncio.wait([before])
        self._under_way[question] = mine
        del self._asked[question]
        try:
            view = await self._relay.read(self.response_id, *question)
        finally:
            del self._under_way[question]
        self._learn(view)
        return view, framed(question[0], view.entries)

    def _learn(self, view: View) -> None:
        self.owner = view.owner
        if view.status == "queued":
            self.number, self.lane, self.reason = view.number, view.lane, view.reason

    def add(self, follower: Follower) -> None:
        """This follower is told what rings."""
        self.followers.add(follower)
        self.only = follower if len(self.followers) == 1 else None

    def drop(self, follower: Follower) -> None:
        """This follower is done."""
        if follower in self.followers:
            self.followers.discard(follower)
            self.only = next(iter(self.followers)) if len(self.followers) == 1 else None
            self._relay.dropped(self)

    def _wait(self, number: int, delay_ms: int, reason: str) -> None:
        self.number, self.reason, self.told = number, reason, None
        if delay_ms:
            for follower in list(self.followers):
                follower.waits(None, delay_ms / 1000, reason)

    def tell_place(self, head: int, above: int, why: str, pace: float | None) -> None:
        """Tells the followers where the response waits, if that has changed."""
        place = max(self.number - (head or self.number) + 1, 1) + above
        eta = None if pace is None else round(place * pace, 1)
        # What holds it back now is more to the point than why it waits again.
        reason = why or self.reason or "workers_busy"
        if self.told == (place, eta, reason):
            return
        self.told = (place, eta, reason)
        for follower in list(self.followers):
            follower.waits(place, eta, reason)


class Relay:
    """All feeds of the process; use it as an async context manager."""

    def __init__(
        self, redis: Redis, pipe: Pipe, queue: Queue, metrics: Metrics, *, doubt_seconds: float
    ) -> None:
        self._pipe = pipe
        self.cipher = pipe.cipher
        self._queue = queue
        self._metrics = metrics
        self._feeds: dict[str, Feed] = {}
        self._reads = asyncio.Semaphore(MOST_READS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._shared: set[asyncio.Task[Look]] = set()
        self._tickers: list[asyncio.Task[None]] = []
        self._doubt_seconds = doubt_seconds
        self._epochs: dict[int, bytes] = {}
        self._on_health: list[Callable[[bool], None]] = []
        self._was_healthy = True
        self.bell = Bell(
            redis,
            probe=Partition(0).probe(secrets.token_hex(8)),
            publish=lambda channel, message: pipe.call("PUBLISH", channel, message),
        )

    async def __aenter__(self) -> Self:
        await self.bell.__aenter__()
        self._tickers = [
            asyncio.create_task(self._watch_health(), name="relay health"),
            asyncio.create_task(self._tick(), name="relay"),
        ]
        for ticker in self._tickers:
            ticker.add_done_callback(self._done)  # never ends by itself: it would be told
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks: list[asyncio.Task[Any]] = [*self._tasks, *self._tickers, *self._shared]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.bell.__aexit__()

    def follow(self, response_id: str, viewer: str, starting_after: int, sink: Sink) -> Follower:
        """A follower that is on its way: the bell first, then the log.

        `viewer` is that of a `Principal`. Raises: UnknownResponse for an id that cannot exist.
        """
        feed = self.feed(response_id)
        follower = Follower(feed, viewer, starting_after, sink)
        feed.add(follower)
        self._metrics.followers.inc()
        if feed.confirmed:
            follower.catch_up()
        return follower

    def expect(self) -> Expected:
        """Listens to what its user submits, so that following it needs no read."""
        return Expected(self)

    def feed(self, response_id: str) -> Feed:
        """The feed of a response; the bell is subscribed for a new one.

        Whoever takes it and does not follow calls `release`. Raises: UnknownResponse.
        """
        feed = self._feeds.get(response_id)
        if feed is None:
            feed = self._feeds[response_id] = Feed(self, response_id)
            self.bell.listen(feed.channel, feed.ring, feed.gap)
        return feed

    def release(self, feed: Feed) -> None:
        """Nothing is left of a feed that nobody needs."""
        if not feed.needed and self._feeds.get(feed.response_id) is feed:
            del self._feeds[feed.response_id]
            self.bell.leave(feed.channel)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that the relay owns."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def share(self, look: Coroutine[Any, Any, Look]) -> asyncio.Task[Look]:
        """A read that the relay owns; its error is for those who asked, if any of them is left."""
        task = asyncio.create_task(look)
        self._shared.add(task)
        task.add_done_callback(self._shared_done)
        return task

    def _shared_done(self, task: asyncio.Task[Look]) -> None:
        self._shared.discard(task)
        if not task.cancelled():
            task.exception()

    async def read(self, response_id: str, start: int, least: int, viewer: str) -> View:
        """A bounded read of a log, at most `MOST_READS` at once in a process.

        Raises: UnknownResponse, Undecodable, RedisTrouble.
        """
        async with self._reads:
            self._metrics.reads.inc()
            return await read(self._pipe, response_id, start, least=least, viewer=viewer)

    def dropped(self, feed: Feed) -> None:
        """A follower has left the feed."""
        self._metrics.followers.dec()
        self.release(feed)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a read failed", error=type(error).__name__, exc_info=error)

    @property
    def followed(self) -> set[str]:
        """The responses that somebody follows here."""
        return set(self._feeds)

    @property
    def healthy(self) -> bool:
        """True while Redis answers and the bell is heard."""
        return self._pipe.connected and self.bell.hears

    def on_health(self, tell: Callable[[bool], None]) -> None:
        """`tell` is called when `healthy` has changed."""
        self._on_health.append(tell)

    async def _watch_health(self) -> None:
        """Asks Redis nothing: one that is stopped would keep the news waiting."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if self.healthy is not self._was_healthy:
                self._was_healthy = self.healthy
                log.warning("redis", healthy=self._was_healthy)
                for tell in self._on_health:
                    tell(self._was_healthy)

    async def _tick(self) -> None:
        while True:
            with contextlib.suppress(RedisTrouble):
                await self._look_for_loss()
                await self._tell_places()
            await asyncio.sleep(TICK_SECONDS)

    async def _look_for_loss(self) -> None:
        """Lets followers read whose Redis was emptied, and those who heard nothing for long.

        The first look knows no epoch to compare with: Redis may have been emptied before it.
        """
        # Of a cluster one node may have been emptied: what is of another partition is on another.
        epochs = {}
        for number in {0} | {feed.partition for feed in self._feeds.values()}:
            fresh = secrets.token_hex(8)
            set_once = ("SET", Partition(number).epoch, fresh, "PX", EPOCH_TTL_MS, "NX", "GET")
            epochs[number] = await self._pipe.call(*set_once) or fresh.encode()
        before, self._epochs = self._epochs, epochs
        quiet = time.monotonic() - self._doubt_seconds
        for feed in list(self._feeds.values()):
            lost = epochs.get(feed.partition) != before.get(feed.partition)
            if feed.confirmed and (lost or feed.rang < quiet):
                feed.gap()

    async def _tell_places(self) -> None:
        waiting: dict[int, dict[tuple[str, str], list[Feed]]] = {}
        for feed in self._feeds.values():
            if feed.number and feed.owner:
                queues = waiting.setdefault(feed.partition, {})
                queues.setdefault((feed.lane, tenant_of(feed.owner)), []).append(feed)
        for partition, queues in waiting.items():
            pace, heads = await self._queue.places(partition, list(queues))
            for queue, feeds in queues.items():
                for feed in feeds:
                    feed.tell_place(*heads[queue], pace)
