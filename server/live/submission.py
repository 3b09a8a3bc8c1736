"""Collects the notifications of a response during its submission, to save the first read.

The script that accepts a response publishes the first entries of its log. A subscriber that
receives them was subscribed before it could miss any. So entries published from index 0 on without
a gap are exactly those that a read would return, and no read is needed. In any case of doubt the
log is read: after a gap, after a notification of another kind or without entries, if the entries
exceed the bytes kept here, and if the first entries were missed because the script was faster than
the subscription or found another response.
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
# The memory that an event takes in addition to its entry.
EVENT_BYTES: Final = 512
# The script's reply and its notification leave Redis together, but over two connections, so they
# arrive in any order. After this many turns of the event loop the notification counts as missed.
NOTIFICATION_TURNS: Final = 2


class ListenedFeed(Protocol):
    """The part of `Feed` that a listener uses."""

    listener: SubmissionListener | None

    def release(self) -> None:
        """Ends the subscription if the feed is no longer needed."""


class SubmissionListener:
    """Listens to a response that is about to be submitted.

    `Relay.listen` creates it; use it as a context manager. Call `listen` before the submission and
    in the same turn of the event loop, `accepted` after it, and follow the response before leaving
    the context: the first read then returns the collected entries. Leaving the context releases
    the feed, which only a follower keeps alive.
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
            self._feed = None  # breaks a reference cycle: the feed refers to this object

    def listen(self, response_id: str, owner: str, queue_name: str) -> None:
        """Subscribes to the fresh id of a response that this owner submits into this queue."""
        self._owner, self._queue_name = owner, queue_name
        self._feed = self._feed_of(response_id)
        self._feed.listener = self

    def accepted(self, number: int) -> None:
        """Notes the number under which the response waits in its queue."""
        self._number = number

    def notify(self, first: int, frames: list[Frame]) -> None:
        """Collects entries that were appended from index `first` on."""
        self._size += sum(len(frame.entry) + EVENT_BYTES for frame in frames)
        if first != len(self._frames) or self._size > MAX_BYTES:
            self.doubt()
        elif not self._doubted:
            self._frames += frames
            self._waits = first == 0

    def gap(self) -> None:
        """Handles a possible loss of notifications, which is harmless before the first entries."""
        if self._frames:
            self.doubt()

    def doubt(self) -> None:
        """Drops the collected entries, which may be incomplete, so that the log is read."""
        self._doubted = True
        self._frames = []

    async def look(self) -> Look | None:
        """Returns the log as collected so far, on the first call only; None if it must be read."""
        for _ in range(NOTIFICATION_TURNS):
            if self._frames or self._doubted:
                break
            await asyncio.sleep(0)
        frames = self._frames
        self.doubt()
        if not frames:
            return None
        status = Status.QUEUED if self._waits else Status.RUNNING  # the events tell if it has ended
        entries = [frame.entry for frame in frames]
        number, queue_name = self._number, self._queue_name
        return View(status, self._owner, 0, number, "", len(frames), entries, queue_name), frames
