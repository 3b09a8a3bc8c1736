"""Floods, each in a separate process, so that they do not share the victim's event loop.

    python -m tests.attacks.floods NAME

Each line of standard input is the next URL to flood; an empty line pauses the flood.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Self

from tests.attacks.raw import BINARY, PING, Raw, frame
from tests.system import ROOT

ATTACKERS = 2
# This pause and the size of each write limit the rate of a flood, so that the server has enough
# processor time left to react.
PAUSE_SECONDS = 0.005
# A burst of 1000 messages costs the server 40 ms of processor time. At this interval, two attackers
# use a fifth of a core. So even on a slow machine, most pings arrive between two bursts and set the
# median, and the pings during a burst set the p99.
BURST_SECONDS = 0.4
SETTLE_SECONDS = 0.3


async def _pour(url: str, data: bytes, *, read: bool, greeting: bytes = b"") -> None:
    """Sends the same data forever and reconnects whenever the server closes the connection."""
    while True:
        with contextlib.suppress(ConnectionError):
            async with Raw(url) as raw:
                await raw.upgrade()
                await raw.send(greeting)
                reading = asyncio.create_task(raw.rest(1000)) if read else None
                try:
                    while not raw.reader.at_eof() and not raw.writer.is_closing():
                        await raw.send(data)
                        await asyncio.sleep(PAUSE_SECONDS)
                finally:
                    if reading is not None:
                        reading.cancel()
                        await asyncio.wait([reading])


async def pings(url: str) -> None:
    await _pour(url, frame(b"", PING) * 500, read=True)


async def pings_unread(url: str) -> None:
    await _pour(url, frame(b"a" * 100, PING) * 100, read=False)


async def messages(url: str) -> None:
    await _pour(url, frame(b'{"type":"holdline:ping","id":1}') * 100, read=True)


async def messages_reconnecting(url: str) -> None:
    """Sends a large burst of messages over each of many short connections."""
    while True:
        with contextlib.suppress(ConnectionError):
            async with Raw(url) as raw:
                await raw.upgrade()
                await raw.send(frame(b'{"type":"holdline:ping","id":1}') * 1000)
                with contextlib.suppress(TimeoutError):
                    await raw.rest(BURST_SECONDS)


async def garbage(url: str) -> None:
    await _pour(url, frame(b"\x00" * 50, BINARY) * 100, read=True)


async def fragments(url: str) -> None:
    begun = frame(b"{", fin=False)
    await _pour(url, frame(b"", 0, fin=False) * 500, read=True, greeting=begun)


async def connections(url: str) -> None:
    while True:
        with contextlib.suppress(ConnectionError):
            async with Raw(url) as raw:
                await raw.send(b"GET / HTTP/1.1\r\n")


FLOODS: dict[str, Callable[[str], Coroutine[Any, Any, None]]] = {
    flood.__name__: flood
    for flood in (
        pings,
        pings_unread,
        messages,
        messages_reconnecting,
        garbage,
        fragments,
        connections,
    )
}


class Flood:
    """A process that floods a given URL. It is an async context manager."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.attacks.floods",
            self._name,
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def direct_at(self, url: str) -> None:
        """Directs the flood at `url`, or pauses it if `url` is empty, and waits for the effect."""
        assert self._process.stdin is not None
        assert self._process.returncode is None
        self._process.stdin.write(f"{url}\n".encode())
        await self._process.stdin.drain()
        await asyncio.sleep(SETTLE_SECONDS)


async def _lines() -> AsyncIterator[str]:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        yield line.decode().strip()


async def _main(name: str) -> None:
    tasks: set[asyncio.Task[None]] = set()
    async for url in _lines():
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        tasks = {asyncio.create_task(FLOODS[name](url)) for _ in range(ATTACKERS if url else 0)}


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
