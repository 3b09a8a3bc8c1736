"""An HTTP/1.1 client that is fast enough not to be the bottleneck of a benchmark.

The client sends prepared requests on a persistent connection, and finds the end of a response
without decoding its chunks.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass
from typing import Any, Final, Self, cast

from .processes import BenchError

LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


@dataclass(frozen=True, slots=True)
class Reply:
    """The bytes of a response with its head, and its times on the monotonic clock.

    `first` is the time at which the marker arrived that `ask` got, or 0 without a marker.
    """

    data: bytes
    first: float
    whole: float


class HttpClient(asyncio.Protocol):
    """A connection that sends one request after another."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._marker = b""
        self._first = 0.0
        self._size: int | None = None
        self._reply: asyncio.Future[Reply] | None = None
        self._transport: asyncio.Transport

    @classmethod
    async def connect(cls, port: int) -> Self:
        """Opens a connection to the loopback interface. Raises: OSError, TimeoutError."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(30):
            _, client = await loop.create_connection(cls, "127.0.0.1", port)
        return client

    async def ask(self, request: bytes, marker: bytes = b"") -> Reply:
        """Sends a request and returns its response. `marker` is a part of the first token.

        Raises: BenchError if the status is not 200; ConnectionError.
        """
        self._data.clear()
        self._marker, self._first, self._size = marker, 0.0, None
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        reply = await self._reply
        if not reply.data.startswith(b"HTTP/1.1 200"):
            raise BenchError(f"a request failed: {reply.data[:500]!r}")
        return reply

    def close(self) -> None:
        """Aborts the connection."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Stores the transport when the connection is open."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fails the current request."""
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(exc or ConnectionResetError("closed during a response"))

    def data_received(self, data: bytes) -> None:
        """Collects the response until it is complete."""
        self._data += data
        if self._marker and not self._first and self._marker in self._data:
            self._first = time.monotonic()
        if self._size is None:
            end = self._data.find(b"\r\n\r\n")
            if end < 0:
                return
            found = LENGTH.search(self._data, 0, end + 1)
            self._size = end + 4 + int(found[1]) if found else 0
        ended = len(self._data) >= self._size if self._size else self._data.endswith(LAST_CHUNK)
        if ended and self._reply is not None and not self._reply.done():
            self._reply.set_result(Reply(bytes(self._data), self._first, time.monotonic()))


def post(path: str, body: dict[str, Any], port: int) -> bytes:
    """Encodes a POST request with a JSON body."""
    sent = json.dumps(body, separators=(",", ":")).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer bench\r\nContent-Length: {len(sent)}\r\n\r\n"
    )
    return head.encode() + sent


def get(path: str, port: int) -> bytes:
    """Encodes a GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
