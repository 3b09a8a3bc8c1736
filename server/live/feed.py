"""The followers of one response, and what is known of it while it is followed.

A feed turns each ringing entry into bytes once, however many follow it.
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


# start, least, viewer
_Question = tuple[int, int, str]


class FeedOwner(Protocol):
    """The part of the relay that a feed uses."""

    cipher: Cipher | None

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs a task that is cancelled at the end of the relay."""

    def share(self, look: Coroutine[Any, Any, Look]) -> asyncio.Task[Look]:
        """Runs a read that several followers may await."""

    async def read(self, response_id: str, start: int, least: int, viewer: str) -> View:
        """Reads a log."""

    def dropped(self, feed: Feed) -> None:
        """Counts a follower that has left."""

    def release(self, feed: Feed) -> None:
        """Removes the feed if nobody needs it."""


class Feed:
    """The followers of one response."""

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
    )

    def __init__(self, relay: FeedOwner, response_id: str) -> None:
        self._relay = relay
        self.response_id = response_id
        self.owner = ""
        self.partition = partition_of(response_id)
        self.channel = Partition(self.partition).notifications(response_id)
        self.followers: set[Follower] = set()
        self.only: Follower | None = None  # where there is one, as nearly always
        self.listener: SubmissionListener | None = None
        self.confirmed = False
        self.number = 0
        self.queue_name = ""
        self.reason = ""
        self.sent_position: tuple[int | None, float | None, str] | None = None
        self.notified_at = time.monotonic()
        self._large: dict[int, Frame] = {}
        # Reads that are not yet sent, which anybody may join, and those that are under way.
        self._asked: dict[_Question, asyncio.Task[Look]] = {}
        self._under_way: dict[_Question, asyncio.Task[Look]] = {}

    @property
    def needed(self) -> bool:
        """True while somebody follows the response, or is about to."""
        return bool(self.followers) or (self.listener is not None and self.listener.open)

    @property
    def quiet(self) -> bool:
        """True when nothing has rung for a while."""
        return time.monotonic() - self.notified_at > TICK_SECONDS

    def notify(self, payload: bytes) -> None:
        """Something was published about the response."""
        self.notified_at = time.monotonic()
        try:
            notification = decode_notification(payload)
            if isinstance(notification, tuple):  # each event of each answer; the rest is rare
                first, entries = notification
                if first:  # those at 0 are of its submission: it waits
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
            log.warning("notification not understood", response_id=self.response_id)
            self.gap()

    def gap(self) -> None:
        """The subscription is confirmed, and anything may have been missed until now."""
        self.confirmed = True
        self.notified_at = time.monotonic()
        if self.listener is not None:
            self.listener.gap()
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
            del asked  # The traceback of its error holds this frame.

    async def _look(self, question: _Question) -> Look:
        mine = self._asked[question]
        while (before := self._under_way.get(question)) is not None:
            await asyncio.wait([before])
        self._under_way[question] = mine
        del self._asked[question]
        try:
            view = await self._relay.read(self.response_id, *question)
        finally:
            del self._under_way[question], mine  # the traceback of its error holds this frame
        self._learn(view)
        return view, self._framed(question[0], view.entries)

    def _framed(self, first: int, entries: list[bytes]) -> list[Frame]:
        """The frames of entries; a large entry has one frame for all who read it at any time."""
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
        self.owner = view.owner
        if view.status == "queued":
            self.number, self.queue_name, self.reason = view.number, view.queue_name, view.reason

    def release(self) -> None:
        """Ends the subscription if nobody needs the feed."""
        self._relay.release(self)

    def add(self, follower: Follower) -> None:
        """Adds a follower, which receives all notifications from now on."""
        self.followers.add(follower)
        self.only = follower if len(self.followers) == 1 else None

    def drop(self, follower: Follower) -> None:
        """This follower is done."""
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
        """Sends the followers the position of the response in its queue, if that has changed."""
        place = max(self.number - (head or self.number) + 1, 1) + above
        eta = None if pace is None else round(place * pace, 1)
        # What holds it back now is more to the point than why it waits again.
        reason = held_by or self.reason or "workers_busy"
        if self.sent_position == (place, eta, reason):
            return
        self.sent_position = (place, eta, reason)
        for follower in list(self.followers):
            follower.waits(place, eta, reason)
