"""The open streams of a server, and the requests that wait for the end of a response."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from server.api.frames import Frame
    from server.api.problem import Problem
    from server.connection_limit import ConnectionLimit
    from server.live.follower import Follower

    from .sse import Stream


class Waiter:
    """A `Sink` that only waits for the end of a response."""

    writable = True

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.problem: Problem | None = None
        self.restarted = False

    def deliver(self, follower: Follower, frames: list[Frame]) -> None:
        """Ignores the events of the response."""

    def queued(self, follower: Follower, place: int | None, eta: float | None, reason: str) -> None:
        """Ignores the response's position in the queue."""

    def ended(self, follower: Follower, problem: Problem | None) -> None:
        """Records the end of the response, and the problem if there is one."""
        del follower
        self.problem = problem
        self.done.set()

    def restart(self) -> None:
        """Ends the wait because of a server restart; does nothing if the response has ended."""
        self.restarted = not self.done.is_set()
        self.done.set()


class Streams:
    """The open streams and the waiting requests of a server, so that a restart can end them.

    `limit` counts the streams together with the server's sockets. It is checked before a prompt is
    accepted, because the stream of an accepted prompt is always opened.
    """

    def __init__(self, limit: ConnectionLimit) -> None:
        self.limit = limit
        self._open: set[Stream] = set()
        limit.count(self._open)
        self._waiters: set[Waiter] = set()
        self.stopped = False
        self._hurried = False
        self._left = asyncio.Event()

    @property
    def count(self) -> int:
        """The number of open streams."""
        return len(self._open)

    @contextlib.contextmanager
    def open(self, stream: Stream) -> Iterator[None]:
        """Registers an open stream; ends it at once if the server is stopping."""
        self._open.add(stream)
        if self.stopped:
            stream.stop()
        try:
            yield
        finally:
            self._open.discard(stream)

    @contextlib.contextmanager
    def wait(self, waiter: Waiter) -> Iterator[None]:
        """Registers a request that waits for its response."""
        self._waiters.add(waiter)
        try:
            yield
        finally:
            self._waiters.discard(waiter)
            self._left.set()

    def hurry(self) -> None:
        """Skips the rest of the grace period for waiting requests."""
        self._hurried = True
        self._left.set()

    async def stop(self, grace_seconds: float) -> None:
        """Ends the streams, and gives waiting requests a grace period to finish."""
        self.stopped = True
        for stream in list(self._open):
            stream.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                while self._waiters and not self._hurried:
                    self._left.clear()
                    await self._left.wait()
        for waiter in list(self._waiters):
            waiter.restart()
