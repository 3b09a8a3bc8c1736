"""A call of the fake model: its script, its record and its hand-written HTTP response."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from socket import SO_LINGER, SOL_SOCKET
from typing import Any


@dataclass
class Call:
    """The record of one request. Times are from the monotonic clock.

    `before` is the text that the model has to continue. `closing` ends an answer of the mode
    `until`.
    """

    number: int
    prompt: str
    mode: str
    body: dict[str, Any]
    headers: dict[str, str]
    began: float = field(default_factory=time.monotonic)
    before: str = ""
    closing: bool = False
    sent: str = ""
    ended: float | None = None
    closed_by_client: float | None = None
    whole: bool = True  # False if a mode has not sent the whole answer


@dataclass
class Script:
    """The behaviour that a prompt selects."""

    mode: str = "ok"
    tokens: int = 20
    pace: float = 0.0
    at: int = -1
    times: int = -1
    after: str = ""
    say: str = ""
    name: str = ""
    args: str = "{}"
    rude: str = ""

    @property
    def turn(self) -> int:
        return self.tokens // 2 if self.at < 0 else self.at


class Wire:
    """Writes an HTTP response by hand, so that it can violate the protocol in any way."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.whole = False
        self.chunked = True

    async def plain(
        self, status: int, text: str, *, kind: str = "application/json", extra: str = ""
    ) -> None:
        content = text.encode()
        self.writer.write(
            f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{extra}"
            f"Content-Length: {len(content)}\r\n\r\n".encode()
            + content
        )
        await self.writer.drain()
        self.whole = True

    async def begin(self, *, chunked: bool = True) -> None:
        self.chunked = chunked
        framing = "Transfer-Encoding: chunked" if chunked else "Connection: close"
        self.writer.write(
            f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{framing}\r\n\r\n".encode()
        )
        await self.writer.drain()

    async def raw(self, data: bytes) -> None:
        self.writer.write(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)
        await self.writer.drain()

    async def event(self, payload: Any) -> None:
        await self.raw(b"data: %b\n\n" % json.dumps(payload).encode())

    async def end(self) -> None:
        if self.chunked:
            self.writer.write(b"0\r\n\r\n")
            await self.writer.drain()
            self.whole = True

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Mode = Callable[[Wire, Script, Call], Awaitable[None]]
