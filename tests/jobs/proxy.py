"""A proxy in front of Redis that simulates network faults."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

CHUNK = 65_536


class Link:
    """One connection through the proxy."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self.near = near
        self.far = far
        self.requests: list[bytes] = []

    def cut(self) -> None:
        """Closes the connection on both sides at once."""
        for writer in (self.near, self.far):
            raw = writer.get_extra_info("socket")
            if raw.family != socket.AF_UNIX:
                with contextlib.suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class Proxy:
    """Listens on a socket and forwards to the Redis at `url`.

    Use the proxy as an async context manager; inside it, `url` is the address to connect to.
    """

    def __init__(self, redis_url: str, folder: Path | None = None) -> None:
        self._to = urlsplit(redis_url)
        self._folder = folder
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._drops = 0
        self._after: bytes | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self.url = ""
        self.links: list[Link] = []
        self.accepted = 0
        self.delay = 0.0
        self.bytes_per_second = 0
        self.refuse = 0
        self.instead: bytes | None = None

    async def __aenter__(self) -> Self:
        if self._folder is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
            port = self._server.sockets[0].getsockname()[1]
            self.url = f"redis://127.0.0.1:{port}"
        else:
            path = self._folder / "proxy.sock"
            self._server = await asyncio.start_unix_server(self._accept, path)
            self.url = f"unix://{path}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def requests(self) -> list[bytes]:
        """The data received from clients over all connections, with one element for each read."""
        return [request for link in self.links for request in link.requests]

    def drop_next_reply(self, count: int = 1) -> None:
        """Drops the next `count` replies of Redis and closes their connections."""
        self._drops = count

    def drop_reply_after(self, words: bytes) -> None:
        """Like `drop_next_reply`, but starts only after a reply with these words has passed."""
        self._after = words

    def move(self, redis_url: str) -> None:
        """Forwards new connections to another Redis."""
        self._to = urlsplit(redis_url)

    @property
    def dropped(self) -> bool:
        """Whether all replies that the test asked to drop have been dropped."""
        return self._drops == 0

    def stop_forwarding(self) -> None:
        """Makes all connections half-open: they stay open, but no more data is delivered."""
        self._flows.clear()

    def forward_again(self) -> None:
        """Delivers the data that was held back, and forwards again."""
        self._flows.set()

    def reset(self) -> None:
        """Closes all connections at once."""
        for link in self.links:
            link.cut()

    async def _accept(self, near_reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.refuse:
            self.refuse -= 1
            near.transport.abort()
            return
        try:
            far_reader, far = await self._connect()
        except OSError:
            near.transport.abort()
            return
        link = Link(near, far)
        self.links.append(link)
        self._spawn(self._forward_requests(link, near_reader))
        self._spawn(self._forward_replies(link, far_reader))

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._to.scheme == "unix":
            return await asyncio.open_unix_connection(self._to.path)
        return await asyncio.open_connection(self._to.hostname, self._to.port)

    def _spawn(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward_requests(self, link: Link, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                link.requests.append(data)
                await self._pass(data, link.far)
        link.cut()

    async def _forward_replies(self, link: Link, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                if self._drops:
                    self._drops -= 1
                    break
                if self._after is not None and self._after in data:
                    self._after, self._drops = None, 1
                if self.instead is not None:
                    data, self.instead = self.instead, None
                await self._pass(data, link.near)
        link.cut()

    async def _pass(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.bytes_per_second:
            await asyncio.sleep(len(data) / self.bytes_per_second)
        await self._flows.wait()
        writer.write(data)
        await writer.drain()
