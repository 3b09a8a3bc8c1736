"""A follower: a cursor on one log. Every event that a client receives passes through a follower.

Live streams, resumed streams, second devices, gaps and slow sockets are all handled in the same
three steps. First the subscription is confirmed, then the log is read from the cursor, and then
entries that fit the cursor are sent as they arrive. If an entry does not fit, the log is read from
the cursor again. Nothing is sent to a sink that is not writable. Once it is writable again, the log
is read from the cursor, so the log itself is the buffer.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

import structlog

from jobs.errors import NotReadableHere, RedisTrouble, Undecodable, UnknownResponse
from jobs.log.cursor import Cursor, Relation
from jobs.record import Status
from runtime.backoff import backoff
from runtime.tracing import NO_SPAN
from server.access.owners import sees
from server.api.frames import NOTHING, Shown
from server.api.problem import Problem
from server.api.refusals import beyond_end, from_error, rolled_back, unknown

from .log_follower import RETRY_SECONDS, FollowedLog, LogFollower

if TYPE_CHECKING:
    from jobs.log.view import View
    from runtime.tracing import Span
    from server.api.frames import Frame

    from .look import Look

# How long a worker may take to rewrite lost entries. It reconnects to Redis at most a second or two
# after the server does.
REWRITE_SECONDS = 5.0

log = structlog.get_logger()


class FollowedFeed(FollowedLog, Protocol):
    """The members of `Feed` that `Follower` uses."""

    response_id: str
    owner: str

    @property
    def quiet(self) -> bool:
        """True if no notification has arrived for `TICK_SECONDS`."""

    async def read(self, start: int, *, least: int, viewer: str) -> Look:
        """Reads the response's log, beginning at index `start`."""


class Sink(Protocol):
    """The destination of a follower's events. Its methods never block."""

    @property
    def writable(self) -> bool:
        """False while the sink could only buffer further events in memory.

        The sink calls `Follower.catch_up` once it is writable again.
        """

    def deliver(self, follower: Follower, frames: list[Frame]) -> None:
        """Accepts events, which arrive in order and without gaps. Raises: Undecodable.

        Any other exception is a bug, and ends only this follower.
        """

    def queued(self, follower: Follower, place: int | None, eta: float | None, reason: str) -> None:
        """Reports the queue position, counted from 1, or None while a retry is not due yet.

        `eta` is the estimated wait in seconds.
        """

    def ended(self, follower: Follower, problem: Problem | None) -> None:
        """Reports the end of following, because of the last event or because of a problem."""


class Follower(LogFollower[FollowedFeed, Sink]):
    """Delivers the log entries after `starting_after` to a sink, each once and in order.

    `shown` describes the event at `starting_after` as the client received it. The sink sets `lane`,
    and adds the lane to each event. The sink also sets `obfuscated`, and then pads each
    delta. `span` ends with the delivery.
    """

    __slots__ = (
        "_cursor",
        "_heard",
        "_knows_last",
        "_resumed_at",
        "_sent_last",
        "_shown",
        "_viewer",
        "lane",
        "obfuscated",
        "span",
    )

    def __init__(
        self,
        feed: FollowedFeed,
        viewer: str,
        starting_after: int,
        sink: Sink,
        shown: Shown = NOTHING,
        span: Span = NO_SPAN,
    ) -> None:
        super().__init__(feed, sink)
        self.span = span
        self.lane = b""
        self.obfuscated = False
        self._viewer = viewer
        self._resumed_at = starting_after + 1
        self._cursor = Cursor(starting_after + 1)
        self._shown = shown if starting_after >= 0 else NOTHING
        # True if the last event that the client received can be compared with the log.
        self._knows_last = self._shown != NOTHING
        self._heard = 0
        # The hash of the last sent entry, by which a later read checks that the log is unchanged.
        self._sent_last: int | None = None

    @property
    def response_id(self) -> str:
        """The id of the followed response."""
        return self.feed.response_id

    @property
    def last(self) -> int:
        """The sequence number of the last event that the sink has, or -1."""
        return self._cursor.next - 1

    @property
    def is_behind(self) -> bool:
        """True while the follower reads the log, or waits until the sink is writable."""
        return not (self._live or self.done)

    @property
    def told_nothing(self) -> bool:
        """True while no event has been delivered to the sink."""
        return self._sent_last is None

    def notify(self, first: int, frames: list[Frame]) -> None:
        """Handles entries that were appended to the log, beginning at index `first`."""
        if not self._live:
            # A read is due or running, and is repeated until it returns all entries announced so
            # far.
            self._heard = max(self._heard, first + len(frames))
            # A running read may have seen the log before this entry replaced a sent one.
            if self._knows_last and first < self._cursor.next:
                self._doubted = True
        elif self._sink.writable and self._cursor.passes(first, len(frames)):
            self._deliver(frames)
        else:
            self._place(first, frames)

    def grown(self, length: int) -> None:
        """Handles a notification without entries: the log has at least `length` entries."""
        self._heard = max(self._heard, length)
        # If these entries include the last sent entry, the log may have been rolled back.
        if self._live and self._cursor.next <= length:
            self.catch_up()
        elif self._knows_last and self._cursor.next == length:
            self._doubted = True

    def waits(self, place: int | None, eta: float | None, reason: str) -> None:
        """Reports the queue position `place`, from 1, to the sink; `eta` is in seconds."""
        if not self.done and self._sink.writable:
            self._sink.queued(self, place, eta, reason)

    def _place(self, first: int, frames: list[Frame]) -> None:
        last = self._cursor.next - 1 - first
        if self._knows_last and 0 <= last < len(frames) and not self._is_same(frames[last]):
            # Redis lost entries that were sent, and the log has grown again.
            self.catch_up()
            return
        match self._cursor.relation(first, len(frames)):
            case Relation.SEEN:
                pass
            case Relation.FITS if self._sink.writable:
                self._send(first, frames)
            case _:
                self.catch_up()

    def doubt(self) -> None:
        """Reads the log if the feed is quiet, because a notification may have been lost."""
        if self._live and self.feed.quiet:
            self.catch_up()

    def _ends(self, reason: str) -> None:
        delivered = self._cursor.next - self._resumed_at
        self.span.set({"holdline.events": delivered, "holdline.ending": reason})
        self.span.end()

    def _send(self, first: int, frames: list[Frame]) -> None:
        if fresh := [frame for _, frame in self._cursor.take(first, frames)]:
            self._deliver(fresh)

    def _deliver(self, frames: list[Frame]) -> None:
        self._sent_last, self._knows_last = hash(frames[-1].entry), True
        try:
            self._sink.deliver(self, frames)
        except Undecodable:
            self._end(_undecodable())
            return
        except Exception as error:
            # The exception would close the connection on which all followers of this server receive
            # their notifications.
            log.exception(
                "unhandled error while sending events: follower ended", error=type(error).__name__
            )
            self._end(from_error(error))
            return
        if frames[-1].last:
            self._end(None)

    async def _read(self) -> None:
        failures = 0
        rewritten_by: float | None = None
        try:
            while self._sink.writable and not self.done:
                # Entries announced before this read are either in its result or lost. Waiting for
                # lost entries would never end. Entries published during the read may be missing
                # from its result, so if `_doubted` was set meanwhile, the log is read again.
                self._heard, self._doubted = 0, False
                try:
                    # Reads one extra entry, the client's last one, to check that the log still
                    # holds this entry.
                    known = self._knows_last
                    start = self._cursor.next - known
                    view, frames = await self.feed.read(start, least=1 + known, viewer=self._viewer)
                except RedisTrouble:
                    failures += 1
                    await asyncio.sleep(backoff(failures, *RETRY_SECONDS))
                    continue
                except UnknownResponse:
                    seen = sees(self._viewer, self.feed.owner)
                    self._end(_gone() if seen else unknown(self.response_id))
                    return
                except NotReadableHere as error:
                    self._end(from_error(error))
                    return
                except Undecodable:
                    self._end(_undecodable())
                    return
                behind = view.length < self._cursor.next and sees(self._viewer, view.owner)
                if behind and view.status is Status.RUNNING:
                    # Redis lost the end of the log; the worker has it in memory and rewrites it.
                    rewritten_by = rewritten_by or time.monotonic() + REWRITE_SECONDS
                    if time.monotonic() < rewritten_by:
                        await asyncio.sleep(RETRY_SECONDS[0])
                        continue
                if problem := self._doubt(view, frames[0] if known and frames else None):
                    self._end(problem)
                    return
                # The client may have resumed the response of another trace, or be another device.
                self.span.link(view.trace)
                self._send(start, frames)
                if self._cursor.next >= max(view.length, self._heard):
                    if view.status.ended:
                        self._end(None)
                    if not self._doubted:
                        self._live = not self.done
                        return
        finally:
            self._reading = None

    def _doubt(self, view: View, again: Frame | None) -> Problem | None:
        """Returns a problem if this view does not continue the client's events, else None."""
        if not sees(self._viewer, view.owner):
            return unknown(self.response_id)
        if view.length >= self._cursor.next and (again is None or self._is_same(again)):
            return None
        if self._cursor.next == self._resumed_at and self._shown == NOTHING:
            return beyond_end(self._resumed_at - 1, view.length)
        return rolled_back()

    def _is_same(self, again: Frame) -> bool:
        """Returns True if this is the last event that the client received."""
        if self._sent_last is None:
            return self._shown.fits(again.event)
        return hash(again.entry) == self._sent_last


def _gone() -> Problem:
    return Problem(
        410,
        "response_gone",
        "This response was deleted or has expired, or the server's storage has lost it. "
        "Send the request again.",
    )


def _undecodable() -> Problem:
    return Problem(
        500,
        "response_damaged",
        "An event of this response cannot be decoded. Send the request again.",
    )
