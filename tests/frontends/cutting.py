"""A TCP proxy that cuts one connection after a number of events.

An event is a server-sent event, or a frame that a server sends on a WebSocket.
`cut_everywhere` runs one proxy for each event of an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Self

ANSWER = "It scatters blue."
SHA256 = hashlib.sha256(ANSWER.encode()).hexdigest()
# The script of the fake model for the answer. Each character is a token, and each token an event,
# because the worker writes it before the next.
SCRIPT = f"say={ANSWER.replace(' ', '_')} pace=0.04"
# More events than any stream of the answer has: one for each token, those around the text, and
# comments.
EVENTS = len(ANSWER) + 24

# Closing a socket with this option resets the connection.
RESET = struct.pack("ii", 1, 0)
HEAD = b"\r\n\r\n"
STREAM, UPGRADE = b"text/event-stream", b" 101 "


def _event(data: bytearray, place: int) -> int:
    """Returns the end of the server-sent event that begins at a place, or 0 if it is incomplete."""
    return data.find(b"\n\n", place) + 2 if b"\n\n" in data[place:] else 0


def _frame(data: bytearray, place: int) -> int:
    """Returns the end of the WebSocket frame (RFC 6455) that begins at a place, or 0."""
    if len(data) < place + 2:
        return 0
    length, size = data[place + 1] & 0x7F, 2
    if length > 125:
        more = 2 if length == 126 else 8
        length, size = int.from_bytes(data[place + 2 : place + 2 + more], "big"), 2 + more
    end = place + size + length
    return end if len(data) >= end and len(data) >= place + size else 0


class CuttingProxy:
    """Forwards all connections to a server, and resets the first stream of events after `events`.

    It is an async context manager; `url` is its address. `cuts` is the number of resets, and
    `seen` the number of events that the proxy has forwarded on the first stream.
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
        ends: Callable[[bytearray, int], int] | None = None
        buffer, place = bytearray(), 0
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                start = len(buffer)
                buffer += data
                # Other responses on the connection may come before the stream.
                mark = max(buffer.find(STREAM), buffer.find(UPGRADE))
                if ends is None and mark >= 0 and (head := buffer.find(HEAD, mark)) > 0:
                    self._streams += 1
                    if self._streams > 1:
                        self._left = -1
                    ends, place = _frame if UPGRADE in buffer[:head] else _event, head + len(HEAD)
                while ends is not None and self._left > 0 and (end := ends(buffer, place)) > 0:
                    place = end
                    self._left -= 1
                    self.seen += 1
                cut = ends is not None and self._left == 0
                writer.write(buffer[start:place] if cut else data)
                if cut:
                    await self._reset(writer)
                    return
            writer.close()

    async def _reset(self, writer: asyncio.StreamWriter) -> None:
        self.cuts += 1
        await writer.drain()
        await asyncio.sleep(0.02)  # a reset discards the data that the peer has not read yet
        if not writer.is_closing():  # the client has closed the connection meanwhile
            raw: socket.socket = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()


@contextlib.asynccontextmanager
async def cut_everywhere(url: str) -> AsyncIterator[list[CuttingProxy]]:
    """Runs a proxy to the server for each place of a cut. Each must forward one whole answer."""
    port = int(url.rpartition(":")[2])
    async with contextlib.AsyncExitStack() as stack:
        proxies = [
            await stack.enter_async_context(CuttingProxy(port, events)) for events in range(EVENTS)
        ]
        yield proxies
    # The last places are behind the end of the stream, so there was a cut after every event. The
    # streams differ in their comments, and on a busy machine in the tokens of an event.
    assert 0 == proxies[-1].cuts
    assert all(proxy.cuts or proxy.seen < number for number, proxy in enumerate(proxies))
    assert len(ANSWER) // 2 < sum(proxy.cuts for proxy in proxies)
