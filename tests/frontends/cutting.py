"""A TCP proxy that cuts one event stream after a number of server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Self

# Closing a socket with this option resets the connection.
RESET = struct.pack("ii", 1, 0)
END = b"\n\n"


class CuttingProxy:
    """Forwards all connections to a server, and resets the first event stream after `events`.

    It is an async context manager; `url` is its address. `cuts` is the number of resets, and
    `seen` the number of events that the proxy has forwarded on the first event stream.
    """

    def __init__(self, port: int, events: int) -> None:
        self._port = port
        self._left = events
        self.cuts = 0
        self.seen = 0
        self.url = ""
        self._streams = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._port)
        down = asyncio.create_task(self._down(up_reader, writer))
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                up_writer.write(data)
        up_writer.close()
        await down
        writer.close()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = False
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                if b"text/event-stream" in data:
                    self._streams += 1
                    first = self._streams == 1
                kept = self._kept(data) if first else data
                writer.write(kept)
                if len(kept) < len(data) or (first and self._left == 0):
                    await self._reset(writer)
                    return
            writer.close()

    def _kept(self, data: bytes) -> bytes:
        """Returns the data up to the cut. A stream of no events is cut after the HTTP head."""
        place = data.find(b"\r\n\r\n") + 4 if b"text/event-stream" in data else 0
        while self._left:
            found = data.find(END, place)
            if found < 0:
                return data
            place = found + len(END)
            self._left -= 1
            self.seen += 1
        return data[:place]

    async def _reset(self, writer: asyncio.StreamWriter) -> None:
        self.cuts += 1
        await writer.drain()
        await asyncio.sleep(0.02)  # a reset discards the data that the peer has not read yet
        if not writer.is_closing():  # the client has closed the connection meanwhile
            raw: socket.socket = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()
