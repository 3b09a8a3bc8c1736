"""The feed of one response, which passes log entries to the response's followers.

A feed decodes each published entry once, however many followers it has.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from jobs.errors import Undecodable
from jobs.log.codec import Deleted, Grown, Waits, decode_notification
from jobs.log.view import View
from jobs.names import Partition, partition_of
from runtime import tracing
from server.api.frames import frame

from .look import framed

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from jobs.cipher import Cipher
    from server.api.frames import Frame

    from .follower import Follower
    from .look import Look
    from .submission import SubmissionListener

TICK_SECONDS = 1.0
LARGE_BYTES = 65_536

log = structlog.get_logger()


# The arguments of a log read: `start`, `least` and `viewer`.
_Question = tuple[int, int, str]


class FeedOwner(Protocol):
    """The members of `Relay` that `Feed` uses."""

    cipher: Cipher | None

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Starts a task that is cancelled when the relay closes."""

    def share(self, look: Coroutine[Any, Any, Look]) -> asyncio.Task[Look]:
        """Starts a log read whose result several followers may await."""

    async def read(self, response_id: str, start: int, least: int, viewer: str) -> View:
        """Reads a response's log, beginning at index `start`."""

    def dropped(self, feed: Feed) -> None:
        """Handles the removal of a follower from this feed."""

    def release(self, feed: Feed) -> None:
        """Removes the feed if it is no longer needed."""


class Feed:
    """Distributes the notifications about one response to its followers."""

    __slots__ = (
        "_asked",
        "_large",
        "_relay",
        "_under_way",
        "channel",
        "confirmed",
        "followers",
        "listener",
        "notified_at",
        "number",
        "only",
        "owner",
        "partition",
        "queue_name",
        "reason",
        "response_id",
        "sent_position",
        "trace",
    )

    def __init__(self, relay: FeedOwner, response_id: str) -> None:
        self._relay = relay
        self.response_id = response_id
        self.owner = ""
        self.trace = tracing.context()  # of the submission; a read of the log corrects it
        self.partition = partition_of(response_id)
        self.channel = Partition(self.partition).notifications(response_id)
        self.followers: set[Follower] = set()
        # The follower, if there is exactly one, as in nearly all cases.
        self.only: Follower | None = None
        self.listener: SubmissionListener | None = None
        self.confirmed = False
        self.number = 0
        self.queue_name = ""
        self.reason = ""
        self.sent_position: tuple[int | None, float | None, str] | None = None
        self.notified_at = time.monotonic()
        self._large: dict[int, Frame] = {}
        # The reads not yet sent to Redis, which other callers may join, and the reads already sent.
        self._asked: dict[_Question, asyncio.Task[Look]] = {}
        self._under_way: dict[_Question, asyncio.Task[Look]] = {}

    @property
    def needed(self) -> bool:
        """True while the response has a follower, or a listener that may soon add a follower."""
        return bool(self.followers) or (self.listener is not None and self.listener.open)

    @property
    def quiet(self) -> bool:
        """True if no notification has arrived for `TICK_SECONDS`."""
        return time.monotonic() - self.notified_at > TICK_SECONDS

    def notify(self, payload: bytes) -> None:
        """Handles one notification that was published for the response."""
        self.notified_at = time.monotonic()
        try:
            notification = decode_notification(payload)
            # The hot path: nearly all notifications carry events.
            if isinstance(notification, tuple):
                first, entries = notification
                # Entries at index 0 come from the submission, while the job still waits.
                if first:
                    self.number = 0
                if (cipher := self._relay.cipher) is not None:
                    entries = cipher.decrypted(self.response_id, first, entries)
                frames = framed(first, entries)
                if self.listener is not None:
                    self.listener.notify(first, frames)
                if self.only is not None:
                    self.only.notify(first, frames)
                else:
                    for follower in list(self.followers):
                        follower.notify(first, frames)
                return
            if self.listener is not None:
                self.listener.doubt()
            match notification:
                case Grown(length):
                    for follower in list(self.followers):
                        follower.grown(length)
                case Waits(number, delay_ms, reason):
                    self._wait(number, delay_ms, reason)
                case Deleted():
                    self.gap()
        except Undecodable:
            with tracing.within(self.trace, self.response_id):
                log.warning("malformed notification ignored: reading the response log instead")
            self.gap()

    def gap(self) -> None:
        """Makes all followers read the log, because notifications may have been missed.

        The subscriber calls this when the subscription is confirmed, and after any interruption.
        """
        self.confirmed = True
        self.notified_at = time.monotonic()
        if self.listener is not None:
            self.listener.gap()
        for follower in list(self.followers):
            follower.catch_up()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Starts a follower's read as a task that the relay cancels and awaits when it closes."""
        with tracing.within(self.trace, self.response_id):
            return self._relay.spawn(work)

    async def read(self, start: int, *, least: int, viewer: str) -> Look:
        """Returns a view of the log from index `start` on, and its entries decoded into events.

        Followers at the same position, as after a reconnect, share one read and one decoding. A
        caller does not join a read that was already sent to Redis, because the caller may know of
        entries that were appended after that read. The caller waits for that read to finish, so
        that only one read runs at a time. If the listener received the whole log, nothing is read.

        Raises: UnknownResponse, Undecodable, RedisTrouble.
        """
        if start == 0 and (listener := self.listener) is not None:
            look = await listener.look()
            self.listener = None
            if look is not None:
                self._learn(look[0])
                return look
        question = start, least, viewer
        asked = self._asked.get(question)
        if asked is None:
            asked = self._asked[question] = self._relay.share(self._look(question))
        try:
            return await asyncio.shield(asked)
        finally:
            # Breaks a reference cycle: the traceback of the task's exception refers to this frame.
            del asked

    async def _look(self, question: _Question) -> Look:
        mine = self._asked[question]
        while (before := self._under_way.get(question)) is not None:
            await asyncio.wait([before])
        self._under_way[question] = mine
        del self._asked[question]
        try:
            view = await self._relay.read(self.response_id, *question)
        finally:
            # Breaks a reference cycle: the traceback of an exception refers to this stack frame.
            del self._under_way[question], mine
        self._learn(view)
        return view, self._framed(question[0], view.entries)

    def _framed(self, first: int, entries: list[bytes]) -> list[Frame]:
        """Decodes entries into frames; all reads share one frame for each large entry."""
        frames = []
        for number, entry in enumerate(entries, first):
            known = self._large.get(number)
            if known is None or known.entry != entry:
                known = frame(number, entry)
                if len(entry) > LARGE_BYTES:
                    self._large[number] = known
            frames.append(known)
        return frames

    def _learn(self, view: View) -> None:
        self.owner, self.trace = view.owner, view.trace or self.trace
        if view.status == "queued":
            self.number, self.queue_name, self.reason = view.number, view.queue_name, view.reason

    def release(self) -> None:
        """Ends the subscription if the feed is no longer needed."""
        self._relay.release(self)

    def add(self, follower: Follower) -> None:
        """Adds a follower, which receives all later notifications."""
        self.followers.add(follower)
        self.only = follower if len(self.followers) == 1 else None

    def drop(self, follower: Follower) -> None:
        """Removes a follower that has stopped following."""
        if follower in self.followers:
            self.followers.discard(follower)
            self.only = next(iter(self.followers)) if len(self.followers) == 1 else None
            self._relay.dropped(self)

    def _wait(self, number: int, delay_ms: int, reason: str) -> None:
        self.number, self.reason, self.sent_position = number, reason, None
        if delay_ms:
            for follower in list(self.followers):
                follower.waits(None, delay_ms / 1000, reason)

    def send_queue_position(self, head: int, above: int, held_by: str, pace: float | None) -> None:
        """Sends followers the response's position in the queue, if the position has changed."""
        place = max(self.number - (head or self.number) + 1, 1) + above
        eta = None if pace is None else round(place * pace, 1)
        # The current cause of the wait is more useful to the client than the reason for an earlier
        # retry.
        reason = held_by or self.reason or "workers_busy"
        if self.sent_position == (place, eta, reason):
            return
        self.sent_position = (place, eta, reason)
        for follower in list(self.followers):
            follower.waits(place, eta, reason)
