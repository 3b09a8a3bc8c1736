"""A TCP proxy that can simulate faults.

Each connection is a link between its near end, where it was accepted, and its far end. A half-open
link accepts all data and forwards nothing, not even the end of the connection, so that the peers
have to detect the fault.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import Counter, deque
from socket import SO_LINGER, SO_RCVBUF, SOL_SOCKET
from typing import Self, cast

CONNECT_SECONDS = 2.0
# The buffer is small, so that throttling soon blocks the sender.
RECEIVE_BUFFER = 16_384


class _End(asyncio.Protocol):
    """One of a link's two ends."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.transport: asyncio.Transport | None = None
        self.pending: deque[bytes] = deque()
        self._holds = 0

    @property
    def peer(self) -> _End:
        return self.link.far if self is self.link.near else self.link.near

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if self is self.link.near:
            self.link.accepted()

    def data_received(self, data: bytes) -> None:
        self.link.passes(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.link.lost(self, reset=exc is not None)

    def pause_writing(self) -> None:
        self.peer.hold()

    def resume_writing(self) -> None:
        self.peer.release()

    def hold(self) -> None:
        """Stops reading until `release` has been called as often as `hold`."""
        self._holds += 1
        if self._holds == 1 and self.transport is not None:
            self.transport.pause_reading()

    def release(self) -> None:
        self._holds -= 1
        if self._holds == 0 and self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def write(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def deliver(self) -> None:
        """Forwards the oldest delayed data."""
        if self.pending and not self.link.half_open:
            self.peer.write(self.pending.popleft())

    def close(self, *, reset: bool) -> None:
        if self.transport is None:
            return
        if reset:
            with contextlib.suppress(OSError):
                raw = self.transport.get_extra_info("socket")
                raw.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.transport.close()


class Link:
    """One connection through the proxy, with the faults that affect it now."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.near = _End(self)
        self.far = _End(self)
        self.half_open = False
        self.delay = 0.0
        self.rate = 0.0
        # When the reply to this command arrives, the proxy drops the reply and closes the
        # connection.
        self.swallows = b""
        self.opened = False
        self._opening: asyncio.Task[None] | None = None

    def accepted(self) -> None:
        self.proxy.links.append(self)
        self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        raw = socket.socket()
        raw.setblocking(False)
        raw.setsockopt(SOL_SOCKET, SO_RCVBUF, RECEIVE_BUFFER)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.sock_connect(raw, ("127.0.0.1", self.proxy.target))
                await loop.create_connection(lambda: self.far, sock=raw)
        except OSError:
            raw.close()
            self.near.close(reset=True)
            self.proxy.links.remove(self)
            return
        self.opened = True
        while self.near.pending and not self.half_open:
            self.near.deliver()
        if self.near.transport is None:
            self.far.close(reset=True)

    def passes(self, end: _End, data: bytes) -> None:
        if self.half_open:
            return
        if end is self.far and self.swallows:
            self.proxy.swallowed[self.swallows] += 1
            self.reset()
            return
        if end is self.near:
            for needle in self.proxy.needles:
                if needle in data:
                    self.proxy.needles.discard(needle)
                    self.swallows = needle
                    break
        if not self.opened:
            end.pending.append(data)
            return
        loop = asyncio.get_running_loop()
        if self.delay or end.pending:
            end.pending.append(data)
            loop.call_later(self.delay, end.deliver)
            return
        end.peer.write(data)
        if self.rate:
            end.hold()
            loop.call_later(len(data) / self.rate, end.release)

    def lost(self, end: _End, *, reset: bool) -> None:
        if not self.opened and end is self.near:
            # The far end failed to connect, or it will be closed when it connects.
            return
        if end.peer.transport is None:
            if self in self.proxy.links:
                self.proxy.links.remove(self)
        elif not self.half_open:
            peer = end.peer
            asyncio.get_running_loop().call_later(
                self.delay if end.pending else 0, lambda: peer.close(reset=reset)
            )

    def reset(self) -> None:
        """Resets the connections to both peers."""
        self.near.close(reset=True)
        self.far.close(reset=True)

    def close(self) -> None:
        """Closes the connections to both peers cleanly."""
        self.near.close(reset=False)
        self.far.close(reset=False)

    def stall(self, seconds: float) -> None:
        """Stops forwarding for a while without losing data."""
        loop = asyncio.get_running_loop()
        for end in (self.near, self.far):
            end.hold()
            loop.call_later(seconds, end.release)


class Proxy:
    """Forwards connections from `port` to `target`. It is an async context manager."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self.target = target
        self.links: list[Link] = []
        # The proxy drops the reply to the next command that contains one of these strings.
        self.needles: set[bytes] = set()
        self.swallowed: Counter[bytes] = Counter()
        self.delay = 0.0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._link, "127.0.0.1", self.port, backlog=512)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for link in list(self.links):
            link.half_open = False
            link.reset()

    def _link(self) -> _End:
        link = Link(self)
        link.delay = self.delay
        return link.near

    def slow_down(self, delay: float) -> None:
        """Delays the data on every current and future link by the given number of seconds."""
        self.delay = delay
        for link in self.links:
            link.delay = delay

    def heal(self) -> None:
        """Ends all faults and resets half-open links."""
        self.needles.clear()
        self.slow_down(0.0)
        for link in list(self.links):
            link.rate, link.swallows = 0.0, b""
            if link.half_open:
                link.half_open = False
                link.reset()
