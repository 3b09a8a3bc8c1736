"""Buffers the events of a stream between its follower and the connection that it is written to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from runtime.metrics import Value
    from server.api.frames import Frame
    from server.api.problem import Problem
    from server.live.follower import Follower

MAX_BUFFERED: Final = 65_536


class ErrorFormat(Protocol):
    """Converts errors to parts of a stream."""

    @property
    def broken(self) -> bool:
        """True once the stream has sent an error as its end.

        The stream was cut off, or the response failed.
        """

    def problem(self, problem: Problem) -> bytes:
        """Returns the stream's last event for a log that cannot be followed any more."""


class EventFormat(ErrorFormat, Protocol):
    """Converts the events of a response's log, and errors, to parts of a stream."""

    def events(self, frames: list[Frame]) -> list[bytes]:
        """Converts log events into parts of the stream. Raises: Undecodable."""


class StreamBuffer:
    """The buffer of one stream. It is bounded; the log holds the rest."""

    def __init__(self, format_: ErrorFormat) -> None:
        self._format = format_
        self._parts: list[bytes] = []
        self._size = 0
        self.news = asyncio.Event()  # set while there are parts to take, or the stream is over
        self._problem: Problem | None = None
        self._explained = False  # True once an error outside of the log has ended the stream
        self.over = False
        self.complete = False  # True once the stream is over and has the end of its log

    @property
    def writable(self) -> bool:
        """False while the buffer is full or the stream is over."""
        return self._size < MAX_BUFFERED and not self.over

    @property
    def cut(self) -> bool:
        """True if the stream ends before its log, and no error was sent to the client."""
        return self.over and not (self.complete or self._explained or self._format.broken)

    def ended(self, follower: object, problem: Problem | None) -> None:
        """Ends the stream, which is complete unless there is a problem."""
        del follower
        if problem is not None:
            self._put(self._format.problem(problem))
        self._problem = problem
        self._explained = problem is not None
        self.complete = problem is None and not self._format.broken
        self.stop()

    def stop(self) -> None:
        """Ends the stream at its current position; the client can resume it on another server."""
        self.over = True
        self.news.set()

    def take(self) -> list[bytes]:
        """Removes the buffered parts, and returns them."""
        self.news.clear()
        parts = self._parts
        self._parts, self._size = [], 0
        return parts

    def _put(self, *parts: bytes) -> None:
        self._parts += parts
        self._size += sum(map(len, parts))
        self.news.set()


class ResponseBuffer(StreamBuffer):
    """A `Sink` that buffers the events of a response.

    `delivered` counts the events of all streams. `unstored` is True once the stream has the end of
    a response that is not stored.
    """

    _format: EventFormat
    unstored = False

    def __init__(self, format_: EventFormat, delivered: Value) -> None:
        super().__init__(format_)
        self._delivered = delivered

    def deliver(self, follower: Follower, frames: list[Frame]) -> None:
        """Buffers events until they are written."""
        del follower
        self._put(*self._format.events(frames))
        self._delivered.count += len(frames)
        if frames[-1].last:
            self.unstored = frames[-1].event["response"].get("store") is False
        if self._format.broken:
            self.stop()

    def queued(self, follower: Follower, place: int | None, eta: float | None, reason: str) -> None:
        """Ignores the response's position in the queue."""
