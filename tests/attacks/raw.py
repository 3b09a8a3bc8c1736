"""A client that can violate the protocol, with raw connections and arbitrary WebSocket frames."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import struct
from typing import Any, Self
from urllib.parse import urlsplit

SECONDS = 10.0
CLOSE_SECONDS = 1.0
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def frame(
    payload: bytes = b"",
    opcode: int = TEXT,
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bool = True,
    length: int | None = None,
) -> bytes:
    """Returns a client frame. `length` overrides the payload length in the frame's header."""
    claimed = len(payload) if length is None else length
    first, masked = (0x80 if fin else 0) | rsv << 4 | opcode, 0x80 if mask else 0
    if claimed < 126:
        head = struct.pack("!BB", first, masked | claimed)
    elif claimed < 65_536:
        head = struct.pack("!BBH", first, masked | 126, claimed)
    else:
        head = struct.pack("!BBQ", first, masked | 127, claimed)
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))


class Raw:
    """One TCP connection to a server. It is an async context manager."""

    def __init__(self, url: str) -> None:
        self._place = urlsplit(url)

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(
            self._place.hostname, self._place.port
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                with contextlib.suppress(OSError):
                    await self.writer.wait_closed()
        except TimeoutError:
            # The server did not read all data in time, so the connection cannot be closed cleanly.
            self.writer.transport.abort()

    async def send(self, data: bytes) -> None:
        """Writes data. Does nothing if the peer has already closed the connection."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    def done(self) -> None:
        """Sends end-of-file. Does nothing if the peer has already closed the connection."""
        with contextlib.suppress(OSError):
            self.writer.write_eof()

    async def rest(self, seconds: float = SECONDS) -> bytes:
        """Reads until the server closes the connection."""
        received = b""
        async with asyncio.timeout(seconds):
            with contextlib.suppress(ConnectionError):
                while data := await self.reader.read(65_536):
                    received += data
        return received

    async def answer(self, request: bytes, seconds: float = SECONDS) -> tuple[int, bytes]:
        """Sends a request. Returns the response's status and head, or status 0 for no response."""
        await self.send(request)
        head = b""
        async with asyncio.timeout(seconds):
            try:
                head = await self.reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                return 0, head
        return int(head.split(b" ", 2)[1]), head

    async def upgrade(self, *headers: str, path: str = "/v1/responses") -> tuple[int, bytes]:
        """Sends a WebSocket upgrade and returns the status and head of its response."""
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {self._place.netloc}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
            *headers,
        ]
        request = "".join(f"{line}\r\n" for line in lines) + "\r\n"
        return await self.answer(request.encode("latin-1"))

    async def next(self) -> tuple[int, bytes]:
        """Returns the opcode and payload of the server's next frame.

        Raises: IncompleteReadError at the end of the stream."""
        first, second = await self.reader.readexactly(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
        return first & 0x0F, await self.reader.readexactly(length)

    async def message(self, kind: str, seconds: float = SECONDS) -> dict[str, Any]:
        """Returns the next JSON message of the given type and skips all others."""
        async with asyncio.timeout(seconds):
            while True:
                opcode, payload = await self.next()
                if opcode == TEXT:
                    message: dict[str, Any] = json.loads(payload)
                    if message["type"] == kind:
                        return message

    async def closed(self, seconds: float = SECONDS) -> int | None:
        """Returns the code of the server's close frame, or None if the stream ends without one."""
        async with asyncio.timeout(seconds):
            try:
                while True:
                    opcode, payload = await self.next()
                    if opcode == CLOSE:
                        return struct.unpack("!H", payload[:2])[0] if payload else 1005
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
