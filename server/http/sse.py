"""Sends events as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, Protocol

from aiohttp import web

from runtime.deadline import Deadline
from server.api.frames import DONE, NO_LANE, encode, queued, sse
from server.api.obfuscation import is_padded, padded_json
from server.api.problem import restarting

from .answers import PIECE_BYTES, error_answer
from .stream_buffer import ErrorFormat, EventFormat, ResponseBuffer, StreamBuffer
from .timeouts import bound_buffers, write_in_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runtime.metrics import Value
    from server.api.frames import Frame
    from server.api.problem import Problem
    from server.live.follower import Follower

# How long a chat stream waits for its first piece before it sends the HTTP status.
HELD_SECONDS: Final = 1.0
# How long other streams wait for their first events, which usually arrive within milliseconds.
FIRST_SECONDS: Final = 0.05
CUT_SECONDS: Final = 0.1
# The header in which an official SDK names the helper that reads the reply.
HELPER_HEADER: Final = "X-Stainless-Helper-Method"
HEARTBEAT: Final = b": still here\n\n"
# The prefix of the types of events that are Holdline's own.
OWN_PREFIX: Final = "holdline:"


class StreamFormat(ErrorFormat, Protocol):
    """The format of a stream: its headers, its errors and its end."""

    failure: Problem | None
    """The failure of the response, once the stream has sent it."""
    ended: bool
    """True once the stream has sent an end of the response other than the regular one."""
    headers: Mapping[str, str]
    """The headers of the stream, besides those that every stream has."""
    done: bytes
    """The bytes that end the stream of a complete response."""

    @property
    def begun(self) -> bool:
        """True if the stream may be sent with status 200."""

    def cut(self, id_: str) -> bytes:
        """Returns the `server_restarting` error, which ends a stream before its log.

        `id_` is the id of the followed response or conversation.
        """


class ResponseFormat(StreamFormat, EventFormat, Protocol):
    """The format of a response's stream, which also converts log events to server-sent events."""


class Events:
    """The stream format of the Responses API: the standard's events, unchanged and resumable.

    If `obfuscated` is True, delta events are padded. `helper` is the SDK's helper that reads the
    stream. The helper `stream` of the Node SDK raises an error for every event type that is not
    OpenAI's, so it receives Holdline's own events with the type `keepalive`.
    """

    begun = True
    failure: Problem | None = None
    broken = False
    ended = False
    headers: Mapping[str, str] = {}
    done = DONE

    def __init__(self, *, obfuscated: bool = False, helper: str | None = None) -> None:
        self._obfuscated = obfuscated
        self._renamed = helper == "stream"

    def events(self, frames: list[Frame]) -> list[bytes]:
        """Converts each event into one server-sent event."""
        if self._obfuscated or self._renamed:
            return [part for frame in frames for part in self._changed(frame)]
        return [part for frame in frames for part in sse(frame)]

    def _changed(self, frame: Frame) -> tuple[bytes, bytes, bytes]:
        head, json, end = sse(frame)
        if self._obfuscated and is_padded(frame):
            json = padded_json(frame, NO_LANE)
        elif self._renamed and frame.type.startswith(OWN_PREFIX):
            head = b"event: keepalive\ndata: "
            json = encode({**frame.event, "type": "keepalive"})
        return head, json, end

    def problem(self, problem: Problem) -> bytes:
        """Returns the standard's `error` event."""
        return error_event(problem)

    def cut(self, id_: str) -> bytes:
        """Returns the standard's `error` event.

        The event has no sequence number, so that a resumed stream misses no event.
        """
        return self.problem(restarting(id_))


def error_event(problem: Problem) -> bytes:
    """Returns the standard's `error` event as a server-sent event."""
    return b"event: error\ndata: %b\n\n" % encode(problem.event())


class StreamFollower(Protocol):
    """The method of a follower that a stream uses."""

    def catch_up_if_behind(self) -> None:
        """Reads the entries, if any, that the stream missed while it was not writable."""


class _EventStream(web.StreamResponse):
    """A response whose head is sent in one write with its first events."""

    _send_headers_immediately = False


class Stream(StreamBuffer):
    """The stream of one request, which writes its parts as the body of the answer."""

    _format: StreamFormat

    def __init__(self, heartbeat_seconds: float, format_: StreamFormat, id_: str) -> None:
        """`id_` is the id of the followed response or conversation."""
        # Not `super()`, which is `ResponseBuffer` in a `ResponseStream`.
        StreamBuffer.__init__(self, format_)
        self._heartbeat = heartbeat_seconds
        self._id = id_
        self.handed_over = False

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of this stream, also if it fails before its first piece."""
        return {}

    async def serve(self, request: web.Request, follower: StreamFollower) -> web.StreamResponse:
        """Writes events until the log ends, or the client disconnects or stops reading."""
        response = _EventStream(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
                **self.headers,
                **self._format.headers,
            }
        )
        # The client may disconnect even before the first byte is sent.
        with contextlib.suppress(ConnectionError), contextlib.closing(Deadline()) as deadline:
            await self._hold(deadline)
            if (failure := self._early_failure) is not None:
                answer = error_answer(failure)
                answer.headers.update(self.headers)
                await answer.prepare(request)
                await answer.write_eof()
                self.handed_over = self._format.ended
                return answer
            await response.prepare(request)
            if request.transport is not None:
                bound_buffers(request.transport, PIECE_BYTES)
            while await self._write_next(request, response, deadline):
                follower.catch_up_if_behind()
            if self.cut:
                # The final HTTP chunk is omitted, so that clients that ignore the error see a
                # broken connection. Some clients then discard unread data, so the error is sent
                # first and given time to arrive.
                await asyncio.sleep(CUT_SECONDS)
                if request.transport is not None:
                    request.transport.close()
                return response
            self.handed_over = self.complete or self._format.ended
        return response

    async def _hold(self, deadline: Deadline) -> None:
        """Waits for the first piece or the end.

        So an early failure of a chat stream sets the HTTP status, and the head of a stream and its
        first events are one write. The next event of a resumed stream may take long, so the wait is
        limited.
        """
        seconds = FIRST_SECONDS if self._format.begun else HELD_SECONDS
        until = asyncio.get_running_loop().time() + seconds
        with contextlib.suppress(TimeoutError):
            while not (self.over or (self._parts and self._format.begun)):
                self.news.clear()
                with deadline.at(until):
                    await self.news.wait()
        self.news.set()

    @property
    def _early_failure(self) -> Problem | None:
        """The problem that ends the stream before its first piece, or None."""
        return None if self._format.begun else self._format.failure or self._problem

    async def _write_next(
        self, request: web.Request, response: web.StreamResponse, deadline: Deadline
    ) -> bool:
        """Writes what has gathered, or a heartbeat. Returns False after the end of the stream."""
        due = asyncio.get_running_loop().time() + self._heartbeat
        with contextlib.suppress(TimeoutError), deadline.at(due):
            await self.news.wait()
        over, parts = self.over, self.take()
        if over and self.complete:
            parts.append(self._format.done)
        elif self.cut:
            parts.append(self._format.cut(self._id))
        pieces = _pieces(parts or [HEARTBEAT])
        last = next(pieces)
        for piece in pieces:
            await write_in_time(request, deadline, response.write(last))
            last = piece
        # The last piece and the end of the body are one write.
        write = response.write_eof if over and not self.cut else response.write
        await write_in_time(request, deadline, write(last))
        return not over


class ResponseStream(Stream, ResponseBuffer):
    """A `Sink` that streams the events of a response.

    `delivered` counts the events of all streams.
    """

    _format: ResponseFormat

    def __init__(
        self, heartbeat_seconds: float, format_: ResponseFormat, response_id: str, delivered: Value
    ) -> None:
        Stream.__init__(self, heartbeat_seconds, format_, response_id)
        self._delivered = delivered

    @property
    def headers(self) -> Mapping[str, str]:
        """Names the response."""
        return {"X-Response-Id": self._id}

    def queued(self, follower: Follower, place: int | None, eta: float | None, reason: str) -> None:
        """Sends the queue position as an SSE comment, which the standard's clients ignore."""
        message = queued(follower.response_id, place, eta, reason)
        self._put(b": %b\n\n" % encode(message))


def _pieces(parts: list[bytes]) -> Iterator[bytes]:
    """Joins small parts and splits large ones into pieces of at most twice `PIECE_BYTES`."""
    if sum(map(len, parts)) <= PIECE_BYTES:
        yield b"".join(parts)
        return
    piece = bytearray()
    for part in parts:
        for start in range(0, len(part), PIECE_BYTES):
            piece += part[start : start + PIECE_BYTES]
            if len(piece) >= PIECE_BYTES:
                yield bytes(piece)
                piece.clear()
    if piece:
        yield bytes(piece)
