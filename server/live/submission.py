"""Collects the notifications of a response during its submission, to save the first read.

The script that accepts a response publishes the first entries of its log. A subscriber that
receives these entries was subscribed in time, so it missed none. If entries arrive from index 0 on
without a gap, they are exactly the entries that a read would return, so no read is needed. In any
case of doubt the log is read: after a gap, after a notification of another kind or without entries,
or if the entries exceed `MAX_BYTES`. The log is also read if the first entries were missed because
the script was faster than the subscription, or because it found an existing response.
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
# The memory in bytes that an event takes in addition to its log entry.
EVENT_BYTES: Final = 512
# Redis sends the script's reply and its notification at the same time, but over two connections, so
# they arrive in any order. After this many turns of the event loop the notification is considered
# missed.
NOTIFICATION_TURNS: Final = 2


class ListenedFeed(Protocol):
    """The members of `Feed` that `SubmissionListener` uses."""

    listener: SubmissionListener | None

    def release(self) -> None:
        """Ends the subscription if the feed is no longer needed."""


class SubmissionListener:
    """Collects the notifications of a response that is about to be submitted.

    `Relay.listen` creates a listener, which is used as a context manager. Call `listen` before the
    submission and in the same turn of the event loop. Call `accepted` after the submission, and
    follow the response before leaving the context. The first read then returns the collected
    entries. Leaving the context releases the feed, which remains only if it has a follower.
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
        """Subscribes to the new response that this owner is about to submit to this queue."""
        self._owner, self._queue_name = owner, queue_name
        self._feed = self._feed_of(response_id)
        self._feed.listener = self

    def accepted(self, number: int) -> None:
        """Stores the number under which the response waits in its queue."""
        self._number = number

    def notify(self, first: int, frames: list[Frame]) -> None:
        """Collects entries that were appended to the log, beginning at index `first`."""
        self._size += sum(len(frame.entry) + EVENT_BYTES for frame in frames)
        if first != len(self._frames) or self._size > MAX_BYTES:
            self.doubt()
        elif not self._doubted:
            self._frames += frames
            self._waits = first == 0

    def gap(self) -> None:
        """Handles possibly lost notifications; a loss before the first entries is harmless."""
        if self._frames:
            self.doubt()

    def doubt(self) -> None:
        """Drops the collected entries, which may be incomplete, so that the log is read."""
        self._doubted = True
        self._frames = []

    async def look(self) -> Look | None:
        """Returns the collected log, on the first call only, or None if the log must be read."""
        for _ in range(NOTIFICATION_TURNS):
            if self._frames or self._doubted:
                break
            await asyncio.sleep(0)
        frames = self._frames
        self.doubt()
        if not frames:
            return None
        # The status is not exact: if the response has already ended, its events say so.
        status = Status.QUEUED if self._waits else Status.RUNNING
        entries = [frame.entry for frame in frames]
        number, queue_name = self._number, self._queue_name
        return View(status, self._owner, 0, number, "", len(frames), entries, queue_name), frames
