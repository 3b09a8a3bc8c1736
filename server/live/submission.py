"""Keeps the notifications of a response that is being submitted, to spare its first read.

The script that accepts a response publishes the entries that its log begins with. Whoever receives
them was subscribed before anything could be missed; so entries that were published from index 0 on
without a gap are what a read would find, and nobody has to read. In any doubt the log is read:
after a gap, after a notification of another kind or without entries, beyond the bytes kept here,
and if the beginning was missed because the script was faster than the subscription or found another
response.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol, Self

from jobs.log.view import View
from jobs.record import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from server.api.frames import Frame

    from .look import Look

MAX_BYTES: Final = 65_536
# What an event takes in memory beside its entry.
EVENT_BYTES: Final = 512
# The reply of the script and its notification leave Redis together, over two connections, and
# arrive in any order. After so many turns of the event loop it counts as missed.
NOTIFICATION_TURNS: Final = 2


class ListenedFeed(Protocol):
    """The part of a feed that a listener uses."""

    listener: SubmissionListener | None

    def release(self) -> None:
        """Ends the subscription if nobody needs the feed."""


class SubmissionListener:
    """A response that is about to be submitted; made by `Relay.listen`, used as a context manager.

    Call `listen` in the same turn as the submission and before it, `accepted` after it, and follow
    the response before the end of the context: then the first read is of what was heard. Once the
    context has ended nothing is left but what a follower keeps.
    """

    __slots__ = (
        "_doubted",
        "_feed",
        "_feed_of",
        "_frames",
        "_number",
        "_owner",
        "_queue_name",
        "_size",
        "_waits",
        "open",
    )

    def __init__(self, feed_of: Callable[[str], ListenedFeed]) -> None:
        self._feed_of = feed_of
        self._feed: ListenedFeed | None = None
        self._owner = ""
        self._queue_name = ""
        self._number = 0
        self._frames: list[Frame] = []
        self._size = 0
        self._waits = True
        self._doubted = False
        self.open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.open = False
        if self._feed is not None:
            self._feed.release()
            self._feed = None  # it holds this object

    def listen(self, response_id: str, owner: str, queue_name: str) -> None:
        """Subscribes to a fresh id, which is submitted for this owner into this queue."""
        self._owner, self._queue_name = owner, queue_name
        self._feed = self._feed_of(response_id)
        self._feed.listener = self

    def accepted(self, number: int) -> None:
        """It waits with this number."""
        self._number = number

    # Notifications.

    def notify(self, first: int, frames: list[Frame]) -> None:
        """Entries were appended from index `first` on."""
        self._size += sum(len(frame.entry) + EVENT_BYTES for frame in frames)
        if first != len(self._frames) or self._size > MAX_BYTES:
            self.doubt()
        elif not self._doubted:
            self._frames += frames
            self._waits = first == 0

    def gap(self) -> None:
        """Notifications may have been missed: none that counts, where the first is yet to come."""
        if self._frames:
            self.doubt()

    def doubt(self) -> None:
        """What was heard is not the whole: it is forgotten, and the log is read."""
        self._doubted = True
        self._frames = []

    async def look(self) -> Look | None:
        """The log as it was heard up to now, once; None where it must be read."""
        for _ in range(NOTIFICATION_TURNS):
            if self._frames or self._doubted:
                break
            await asyncio.sleep(0)
        frames = self._frames
        self.doubt()
        if not frames:
            return None
        status = Status.QUEUED if self._waits else Status.RUNNING  # an end is among the events
        entries = [frame.entry for frame in frames]
        number, queue_name = self._number, self._queue_name
        return View(status, self._owner, 0, number, "", len(frames), entries, queue_name), frames
