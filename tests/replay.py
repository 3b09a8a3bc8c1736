"""An endpoint that replays recorded responses of real servers, byte for byte.

    async with ReplayedEndpoint([reply, ...]) as endpoint:
        ...                      # point OPENAI_BASE_URL at endpoint.url

A reply that begins with `HTTP/` is a complete HTTP response; any other is the body of an event
stream. The last reply is repeated for all further calls. `endpoint.bodies` has the body of each
request, `endpoint.paths` its path, and `endpoint.headers` its headers; paths and headers are in
lower case. With `closes=False`, the connection stays open until the client closes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


class ReplayedEndpoint:
    """Replays the recorded replies. It is an async context manager, and `url` is its base URL."""

    def __init__(self, replies: Sequence[bytes], *, closes: bool = True) -> None:
        self._closes = closes
        self._replies = [r if r.startswith(b"HTTP/") else _HEAD + r for r in replies]
        self._server: asyncio.Server | None = None
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *fields = head.lower().splitlines()
            headers = dict(field.split(": ", 1) for field in fields if field)
            content = await reader.readexactly(int(headers.get("content-length", "0")))
            self.paths.append(line.split(" ")[1])
            self.headers.append(headers)
            self.bodies.append(json.loads(content or b"{}"))
            writer.write(self._replies[min(len(self.bodies), len(self._replies)) - 1])
            await writer.drain()
            if not self._closes:
                await reader.read()
            writer.close()


def replies_of(folder: Path) -> list[bytes]:
    """Returns the replies in the files `up-1.sse` or `up-1.http`, `up-2.sse`, …"""
    return [path.read_bytes() for path in sorted(folder.glob("up-*"))]
