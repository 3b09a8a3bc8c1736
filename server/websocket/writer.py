"""Writes messages and events to one WebSocket, at the pace of its client.

Events are written straight to the transport, with no task and no queue per event. While the
transport holds more than `MAX_BUFFERED` bytes, no events are written: the followers keep their
cursors, and read the missed entries from the log when the buffer is empty. See `backpressure`.

All data written in one turn of the event loop is sent together; beyond `MAX_BUFFERED` bytes, the
transport tries to send at once. So the transport holds more than this only if the kernel's own
buffer is full, which means that the client is slow.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from aiohttp import WSMsgType

from server.api.frames import FRAGMENT_BYTES, websocket_frame
from server.api.obfuscation import padded_message

from .connection import SocketConnection
from .welcome import is_extension

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from server.api.encoding import Encoding
    from server.api.frames import Frame
    from server.api.shared_message import SharedMessage
    from server.live.follower import Follower

    from .auth import SocketAuth
    from .backpressure import SlowConsumer
    from .services import Services

MAX_BUFFERED: Final = 1_024


class SocketWriter(SocketConnection):
    """The outgoing half of a socket. A subclass has the followers.

    It is a base class, and not a part of the socket, because a server may hold ten thousand
    sockets, and each part of a socket takes memory.
    """

    __slots__ = ("_encoding", "_slow_consumer", "_unsent")

    def __init__(
        self, auth: SocketAuth, services: Services, encoding: Encoding, subprotocol: str | None
    ) -> None:
        super().__init__(auth, services, encoding, subprotocol)
        self._encoding = encoding
        self._slow_consumer: SlowConsumer | None = None  # set while the socket is not writable
        # Frames that are written once the transport's buffer is empty.
        self._unsent: Iterator[bytes | memoryview] | None = None

    @abstractmethod
    def _catch_up(self) -> None:
        """Sends the events that the client missed while the socket was not writable."""

    @abstractmethod
    def _delivered_last(self, follower: Follower, frame: Frame) -> None:
        """Records the consequences of the last event of a response, which has been written."""

    @property
    def writable(self) -> bool:
        """False from the moment when the transport's buffer is full until the buffer is empty."""
        transport = self._transport
        if transport is None or transport.is_closing() or self._slow_consumer is not None:
            return False
        if self._unsent is None and transport.get_write_buffer_size() <= MAX_BUFFERED:
            return True
        self._watch(transport)
        return False

    def _watch(self, transport: asyncio.Transport) -> None:
        self._slow_consumer = self._services.slow.watch(transport, self._caught_up)
        self._metrics.slow_sockets.inc()

    def say(self, message: dict[str, Any]) -> None:
        """Writes a message that is not part of a log.

        A message of Holdline's own is dropped if the client has not switched on the extensions.
        """
        if not self._extended and is_extension(message):
            return
        if message["type"] == "error":
            error = message["error"]
            code = error.get("holdline", {}).get("error_code", error["code"])
            self._metrics.refused.labels(code).inc()
        self.write(websocket_frame(self._encoding.encode(message), self._encoding.kind))

    def tell_health(self, *, healthy: bool) -> None:
        """Tells the client that answers may be late, or that answers are on time again."""
        self.say({"type": "holdline:degraded", "degraded": not healthy})

    def ping(self, payload: bytes) -> None:
        """Sends a ping with this payload, which the client's pong repeats."""
        self.write(websocket_frame(payload, WSMsgType.PING))

    def deliver(self, follower: Follower, frames: list[Frame]) -> None:
        """Writes the events at once, or gradually in fragments if one of them is large.

        The code is one function, because it runs for each event and socket.
        """
        message, lane, transport = self._encoding.message, follower.lane, self._transport
        if follower.obfuscated:
            message = partial(padded_message, self._encoding)
        # A large entry is always the first or the last one of a read.
        if len(frames[0].entry) > FRAGMENT_BYTES or len(frames[-1].entry) > FRAGMENT_BYTES:
            pieces = chain.from_iterable(
                [
                    self._encoding.fragments(frame, lane)
                    if len(frame.entry) > FRAGMENT_BYTES
                    else [message(frame, lane)]
                    for frame in frames
                ]
            )
            if self._unsent is None:
                self._unsent = pieces
                self._write_unsent()
            else:
                self._unsent = chain(self._unsent, pieces)
        else:
            data = message(frames[0], lane)
            if len(frames) > 1:
                data = b"".join([data, *(message(frame, lane) for frame in frames[1:])])
            if self._unsent is not None:
                # A read for another follower may end while a large message is being written. Its
                # events must not come between the fragments of that message.
                self._unsent = chain(self._unsent, [data])
            elif transport is not None and not transport.is_closing():
                transport.write(data)
        self._metrics.delivered_to_sockets.count += len(frames)
        if frames[-1].last:
            self._delivered_last(follower, frames[-1])

    def write_shared(self, message: SharedMessage) -> None:
        """Writes a message that several sockets receive, gradually if it is large."""
        data = message.frame(self._encoding)
        if len(data) <= FRAGMENT_BYTES:
            self.write(data)
            return
        # All sockets share the encoded message, so a slow socket holds no copy of it.
        view = memoryview(data)
        starts = range(0, len(data), FRAGMENT_BYTES)
        pieces = (view[start : start + FRAGMENT_BYTES] for start in starts)
        self._unsent = pieces if self._unsent is None else chain(self._unsent, pieces)
        self._write_unsent()

    def write(self, data: bytes) -> None:
        """Writes encoded frames."""
        if self._unsent is not None:
            self._unsent = chain(self._unsent, [data])
        elif self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _write_unsent(self) -> None:
        """Writes frames of large messages as long as the kernel accepts more data."""
        transport = self._transport
        while self._unsent is not None and transport is not None and not transport.is_closing():
            if transport.get_write_buffer_size() > MAX_BUFFERED:
                self._watch(transport)
                return
            if (data := next(self._unsent, None)) is None:
                self._unsent = None
            else:
                transport.write(data)

    def _caught_up(self, *, stuck: bool) -> None:
        """Resumes writing after the buffer became empty or the connection was dropped."""
        self._slow_consumer = None
        self._metrics.slow_sockets.dec()
        if stuck:
            self._metrics.closed_slow.inc()
        self._write_unsent()
        if self.writable:
            self._catch_up()
