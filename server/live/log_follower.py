"""The life cycle of a follower, which reads a log from a cursor until it has all entries.

A follower is live if it has all entries that it knows of. Otherwise one task reads the log, or the
follower waits until its sink is writable:

    live       a notification that does not continue the cursor, or a gap: behind
    behind     a read that returns everything, while no doubt arose:        live
    either     the end of the log, a problem, or `leave`:                   done
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from server.api.problem import Problem

RETRY_SECONDS: Final = (0.1, 2.0)


class FollowedLog(Protocol):
    """The members of a feed that every follower uses."""

    confirmed: bool

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Starts a follower's read as a task."""

    def drop(self, follower: Any) -> None:
        """Removes a follower that has stopped following."""


class EndSink(Protocol):
    """The member of a sink that every follower uses."""

    def ended(self, follower: Any, problem: Problem | None) -> None:
        """Reports the end of following."""


F = TypeVar("F", bound=FollowedLog)
S = TypeVar("S", bound=EndSink)


class LogFollower(ABC, Generic[F, S]):
    """A follower of a log. A subclass reads the log and delivers its entries."""

    __slots__ = ("_doubted", "_live", "_reading", "_sink", "done", "feed")

    def __init__(self, feed: F, sink: S) -> None:
        self.feed = feed
        self.done = False
        self._sink = sink
        self._live = False
        # True if entries may have been missed since the current read began.
        self._doubted = False
        self._reading: asyncio.Task[None] | None = None

    @abstractmethod
    async def _read(self) -> None:
        """Reads the log until no entry is missing, and sets `_live`. Clears `_reading`."""

    def _ends(self, reason: str) -> None:
        """Records the reason of the end: "left", "complete" or the code of a problem."""

    def catch_up(self) -> None:
        """Reads the log from the cursor until no entry is missing; may be called at any time."""
        self._live = False
        self._doubted = True
        if self._reading is None and not self.done:
            self._reading = self.feed.spawn(self._read())

    def catch_up_if_behind(self) -> None:
        """Reads the entries, if any, that the sink missed while it was not writable."""
        if not self._live and self.feed.confirmed:
            self.catch_up()

    def leave(self) -> None:
        """Stops following; the sink receives nothing more."""
        if not self.done:
            if self._reading is not None:
                self._reading.cancel()
            self._stop("left")

    def _end(self, problem: Problem | None) -> None:
        if not self.done:
            self._stop("complete" if problem is None else problem.code)
            self._sink.ended(self, problem)

    def _stop(self, reason: str) -> None:
        self.done, self._live = True, False
        self._ends(reason)
        self.feed.drop(self)
