"""A WebSocket client that is fast enough not to be the bottleneck of a benchmark.

The client implements WebSockets directly on asyncio's transports. Payloads stay bytes, and a
benchmark parses only the fields that it needs. The masking key is always zero, so that masking
costs nothing. RFC 6455 allows a key of zero, and the server handles such frames like any others.
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket as sockets
import struct
from collections.abc import Callable
from typing import Final, Self, cast

TEXT: Final = 0x81
PING: Final = 0x89
PONG: Final = 0x8A
# The maximum number of concurrent connection attempts. More attempts could overflow the backlog of
# the listening socket.
CONNECTING: Final = 256


def masked(payload: bytes, first: int = TEXT) -> bytes:
    """Encodes a WebSocket client frame with a masking key of zero (RFC 6455, section 5.2)."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BBI", first, 0x80 | size, 0) + payload
    if size < 65_536:
        return struct.pack("!BBHI", first, 0xFE, size, 0) + payload
    return struct.pack("!BBQI", first, 0xFF, size, 0) + payload


class Client(asyncio.Protocol):
    """A WebSocket that calls `on_frame(client, payload)` for each data frame.

    With `reads=False`, the client stops reading after the handshake, and its receive buffer in the
    kernel is small.
    """

    def __init__(self, number: int, on_frame: Callable[[Client, bytes], None]) -> None:
        self.number = number
        self.on_frame = on_frame
        self._read = b""
        self._open = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    @classmethod
    async def connect(
        cls,
        port: int,
        path: str,
        number: int,
        on_frame: Callable[[Client, bytes], None],
        *,
        reads: bool = True,
    ) -> Self:
        """Opens a WebSocket. Raises: OSError, TimeoutError."""
        loop = asyncio.get_running_loop()
        raw = sockets.socket()
        raw.setblocking(False)
        if not reads:
            raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        async with asyncio.timeout(30):
            await loop.sock_connect(raw, ("127.0.0.1", port))
            _, client = await loop.create_connection(lambda: cls(number, on_frame), sock=raw)
            key = base64.b64encode(os.urandom(16)).decode()
            client.transport.write(
                f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                "Sec-WebSocket-Version: 13\r\n\r\n".encode()
            )
            await client.opened
        if not reads:
            client.transport.pause_reading()
        return client

    def send(self, payload: bytes) -> None:
        """Sends a text message."""
        self.transport.write(masked(payload))

    def close(self) -> None:
        """Aborts the connection."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Stores the transport when the connection is open."""
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fails `opened` if the connection closes before the handshake is complete."""
        if not self.opened.done():
            self.opened.set_exception(exc or ConnectionResetError("closed during the upgrade"))

    def data_received(self, data: bytes) -> None:
        """Parses the handshake and the WebSocket frames in the received bytes."""
        data = self._read + data if self._read else data
        if not self._open:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._read = head
                return
            self._open = True
            if not self.opened.done():
                if b" 101 " in head[:16]:
                    self.opened.set_result(None)
                else:
                    self.opened.set_exception(ConnectionRefusedError(head[:200]))
                    return
        at, end_of_data, on_frame = 0, len(data), self.on_frame
        while end_of_data - at >= 2:
            size, start = data[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            elif size == 127:
                size, start = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            stop = start + size
            if stop > end_of_data or start > end_of_data:
                break
            first = data[at]
            if first < 0x88:
                on_frame(self, data[start:stop])
            elif first == PING:
                self.transport.write(masked(data[start:stop], PONG))
            at = stop
        self._read = data[at:] if at else data


async def crowd(
    port: int,
    path: str,
    numbers: range,
    on_frame: Callable[[Client, bytes], None],
    *,
    reads: bool = True,
) -> list[Client]:
    """Opens one WebSocket for each number; the number replaces `{n}` in the path."""
    gate = asyncio.Semaphore(CONNECTING)

    async def one(number: int) -> Client:
        async with gate:
            at = path.replace("{n}", str(number))
            return await Client.connect(port, at, number, on_frame, reads=reads)

    return list(await asyncio.gather(*map(one, numbers)))


async def dismiss(clients: list[Client]) -> None:
    """Aborts all connections, and waits briefly so that the server can notice the aborts."""
    for client in clients:
        client.close()
    await asyncio.sleep(0.3)


class Arrivals:
    """Counts arriving events or responses, and can wait for a given count."""

    def __init__(self) -> None:
        self.count = 0
        self._wanted = 0
        self._there: asyncio.Future[None] | None = None

    def add(self, number: int = 1) -> None:
        """Increases the count, and wakes the waiting caller if the awaited count is reached."""
        self.count += number
        if self._there is not None and self.count >= self._wanted and not self._there.done():
            self._there.set_result(None)

    async def reached(self, number: int, seconds: float = 60.0) -> None:
        """Waits until the total count is at least `number`. Raises: TimeoutError."""
        if self.count >= number:
            return
        self._wanted = number
        self._there = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(seconds):
            await self._there
