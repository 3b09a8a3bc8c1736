"""The relay: the Redis subscriber of a process, and one feed per followed response."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import structlog

from jobs.each_partition import each_partition
from jobs.errors import RedisTrouble
from jobs.log.log import read
from jobs.names import Partition, tenant_of
from jobs.notifications import subscriber
from runtime import tracing
from runtime.loop import Loop
from server.api.frames import NOTHING, Shown

from .feed import TICK_SECONDS, Feed
from .follower import Follower
from .submission import SubmissionListener

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from jobs.log.view import View
    from jobs.queue import Queue
    from jobs.redis.connection import Redis
    from jobs.redis.pipe import Pipe
    from server.metrics import Metrics

    from .follower import Sink

MAX_READS = 64
EPOCH_TTL_MS = 30 * 24 * 3600 * 1000

log = structlog.get_logger()


T = TypeVar("T")


class Watched(Protocol):
    """A feed that has to be read again if Redis may have lost its data or a notification."""

    confirmed: bool
    notified_at: float

    @property
    def partition(self) -> int:
        """The number of the partition that contains the feed."""

    def gap(self) -> None:
        """Makes all followers read the feed."""


class Relay:
    """Owns all feeds of the process. Used as an async context manager."""

    def __init__(
        self, redis: Redis, pipe: Pipe, queue: Queue, metrics: Metrics, *, doubt_seconds: float
    ) -> None:
        self._pipe = pipe
        self.cipher = pipe.cipher
        self._queue = queue
        self._metrics = metrics
        self._feeds: dict[str, Feed] = {}
        self._reads = asyncio.Semaphore(MAX_READS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._shared: set[asyncio.Task[Any]] = set()
        self._watched: set[Watched] = set()
        pause = (TICK_SECONDS, TICK_SECONDS)
        self._loops = (
            Loop("relay health", self._check_health, pause, first_pause=pause),
            Loop("relay", self._tick, pause, ignored=(RedisTrouble,)),
        )
        self._doubt_seconds = doubt_seconds
        self._epochs: dict[int, bytes] = {}
        self._on_health: list[Callable[[bool], None]] = []
        self._was_healthy = True
        self.subscriber = subscriber(redis, pipe, queue.partitions)

    async def __aenter__(self) -> Self:
        await self.subscriber.__aenter__()
        for loop in self._loops:
            loop.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for loop in self._loops:
            await loop.stop()
        tasks: list[asyncio.Task[Any]] = [*self._tasks, *self._shared]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.subscriber.__aexit__()

    def follow(
        self,
        response_id: str,
        viewer: str,
        starting_after: int,
        sink: Sink,
        *,
        shown: Shown = NOTHING,
        trace: str = "",
    ) -> Follower:
        """Returns a new follower, which reads the log once the subscription is confirmed.

        `viewer` is `Principal.viewer`; `Follower` describes `shown`. `trace` is the trace context
        of the delivery, by default that of the code that runs now.

        Raises: UnknownResponse if no response can have this id.
        """
        feed = self.feed(response_id)
        span = tracing.start(
            "deliver",
            parent=trace or None,
            attributes={
                "holdline.response_id": response_id,
                "holdline.starting_after": starting_after,
            },
        )
        follower = Follower(feed, viewer, starting_after, sink, shown, span)
        feed.add(follower)
        self._metrics.followers.inc()
        if feed.confirmed:
            follower.catch_up()
        return follower

    def listen(self) -> SubmissionListener:
        """Returns a listener that subscribes before a submission, to save the first read."""
        return SubmissionListener(self.feed)

    def feed(self, response_id: str) -> Feed:
        """Returns the feed of a response, which is created and subscribed if it does not exist.

        A caller that does not add a follower must call `release`.

        Raises: UnknownResponse.
        """
        feed = self._feeds.get(response_id)
        if feed is None:
            feed = self._feeds[response_id] = Feed(self, response_id)
            self.subscriber.subscribe(feed.channel, feed.notify, feed.gap)
        return feed

    def release(self, feed: Feed) -> None:
        """Removes the feed and its subscription if it is no longer needed."""
        if not feed.needed and self._feeds.get(feed.response_id) is feed:
            del self._feeds[feed.response_id]
            self.subscriber.unsubscribe(feed.channel)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Starts a task, which the relay cancels and awaits when it closes."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def share(self, look: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Starts a log read. If the read fails, each caller that awaits it gets the exception."""
        task = asyncio.create_task(look)
        self._shared.add(task)
        task.add_done_callback(self._shared_done)
        return task

    def _shared_done(self, task: asyncio.Task[Any]) -> None:
        self._shared.discard(task)
        if not task.cancelled():
            task.exception()

    async def read(self, response_id: str, start: int, least: int, viewer: str) -> View:
        """Reads a bounded part of a log, with at most `MAX_READS` concurrent reads per process.

        Raises: UnknownResponse, Undecodable, RedisTrouble.
        """
        async with self._reads:
            self._metrics.reads.inc()
            return await read(self._pipe, response_id, start, min_entries=least, viewer=viewer)

    async def limited(self, read: Callable[[], Awaitable[T]]) -> T:
        """Runs another kind of read, within the limit of concurrent reads per process."""
        async with self._reads:
            self._metrics.reads.inc()
            return await read()

    def watch(self, watched: Watched) -> None:
        """Calls the `gap` of another kind of feed when Redis may have lost its data."""
        self._watched.add(watched)

    def unwatch(self, watched: Watched) -> None:
        """Ends the effect of `watch`."""
        self._watched.discard(watched)

    def dropped(self, feed: Feed) -> None:
        """Handles the removal of a follower from this feed."""
        self._metrics.followers.dec()
        self.release(feed)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error(
                "unhandled error while reading a response log",
                error=type(error).__name__,
                exc_info=error,
            )

    @property
    def followed(self) -> set[str]:
        """The ids of the responses that are followed on this server."""
        return set(self._feeds)

    @property
    def healthy(self) -> bool:
        """True while Redis answers and the subscriber is healthy."""
        return self._pipe.connected and self.subscriber.healthy

    @property
    def followers_behind(self) -> int:
        """The number of followers that have not received all events that the process knows of."""
        return sum(one.is_behind for feed in self._feeds.values() for one in feed.followers)

    def on_health(self, tell: Callable[[bool], None]) -> None:
        """Registers a callback that receives the new value of `healthy` when it changes."""
        self._on_health.append(tell)

    async def _check_health(self) -> None:
        """Calls the health callbacks if `healthy` has changed.

        No command is sent to Redis, because waiting for a stopped Redis would delay the report.
        """
        if self.healthy is not self._was_healthy:
            self._was_healthy = self.healthy
            if self._was_healthy:
                log.info("Redis recovered")
            else:
                connected = self._pipe.connected
                reason = "no notifications received" if connected else "connection lost"
                log.warning("Redis is failing: retrying until it recovers", reason=reason)
            for tell in self._on_health:
                tell(self._was_healthy)

    async def _tick(self) -> None:
        await self._look_for_loss()
        await self._send_queue_positions()

    async def _look_for_loss(self) -> None:
        """Makes followers read their logs if Redis was emptied or their feed was quiet for a while.

        The first check has no earlier epoch to compare with. It treats every feed as affected,
        because Redis may have been emptied before the check.
        """
        # Each partition has its own epoch, because a single cluster node may have been emptied.
        feeds: list[Watched] = [*self._feeds.values(), *self._watched]
        numbers = {0} | {feed.partition for feed in feeds}
        before = self._epochs
        # An unavailable partition keeps its last epoch.
        self._epochs = epochs = {number: before[number] for number in numbers & before.keys()}

        async def read_epoch(number: int) -> None:
            fresh = secrets.token_hex(8)
            set_once = ("SET", Partition(number).epoch, fresh, "PX", EPOCH_TTL_MS, "NX", "GET")
            epochs[number] = await self._pipe.call(*set_once) or fresh.encode()

        with contextlib.suppress(RedisTrouble):
            await each_partition(numbers, read_epoch)
        quiet = time.monotonic() - self._doubt_seconds
        for feed in feeds:
            lost = epochs.get(feed.partition) != before.get(feed.partition)
            if feed.confirmed and (lost or feed.notified_at < quiet):
                feed.gap()

    async def _send_queue_positions(self) -> None:
        waiting: dict[int, dict[tuple[str, str], list[Feed]]] = {}
        for feed in self._feeds.values():
            if feed.number and feed.owner:
                queues = waiting.setdefault(feed.partition, {})
                queues.setdefault((feed.queue_name, tenant_of(feed.owner)), []).append(feed)

        async def send(partition: int) -> None:
            queues = waiting[partition]
            pace, heads = await self._queue.queue_positions(partition, list(queues))
            for queue, feeds in queues.items():
                for feed in feeds:
                    feed.send_queue_position(*heads[queue], pace)

        await each_partition(waiting, send)
