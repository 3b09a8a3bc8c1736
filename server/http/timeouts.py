"""How long a client may take, and how much it may send: the slow are let go, a flood is read late.

A connection is closed that has not sent the head of its first request in time; aiohttp by itself
would wait for an hour. Later heads are bounded by the keep-alive, bodies by `read_body`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from runtime.loop import Loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from aiohttp.typedefs import Handler

# Longer than the minute for which a proxy keeps its connections: the one who closes first wins
# the race against a request that is already under way.
KEEP_ALIVE_SECONDS: Final = 75.0
# For the rest of a body that was refused before its end.
LINGERING_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 1.0
# A client that takes nothing for so long is dropped.
STUCK_SECONDS: Final = 30.0
KERNEL_BUFFER: Final = 131_072


class HeaderTimeout:
    """Closes connections whose first request does not come; who has sent a head is let in."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: dict[Any, float] = {}
        self._in: set[Any] = set()

    def middleware(self) -> Any:
        """Notes who has sent a head. It has to be the outermost."""

        @web.middleware
        def enter(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
            # No coroutine of its own, which would be kept as long as a socket is open.
            self._in.add(request.protocol)
            return handler(request)

        return enter

    def watch(self, runner: web.AppRunner) -> Loop:
        """The loop that looks at the connections of a server once a second."""

        async def look() -> None:
            if runner.server is not None:
                self.look(runner.server.connections, time.monotonic())

        seconds = min(LOOK_SECONDS, self._seconds / 2)
        pause = (seconds, seconds)
        return Loop("header timeout", look, pause, first_pause=pause)

    def look(self, connections: list[Any], now: float) -> None:
        """Closes what has waited for too long; forgets what is gone."""
        here = set(connections)
        self._in &= here
        self._waiting = {c: self._waiting.get(c, now) for c in here - self._in}
        for connection, since in self._waiting.items():
            if now - since > self._seconds and connection.transport is not None:
                connection.transport.abort()


class TokenBucket:
    """A bucket of messages that fills at a steady pace; `take` says how long to wait."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: int) -> None:
        """`rate` in messages a second; `burst` may come at once."""
        self._rate = rate
        self._burst = burst
        self._left = float(burst)
        self._at = 0.0

    def take(self, now: float) -> float:
        """Counts one message at this time; the seconds until there is room for it."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate) - 1
        self._at = now
        return max(0.0, -self._left / self._rate)


def bound_buffers(transport: asyncio.WriteTransport, high: int) -> None:
    """Bounds what the process and the kernel keep for a client that does not read.

    Above `high` bytes a drain waits. Without a bound the kernel would keep megabytes.
    """
    transport.set_write_buffer_limits(high=high)
    if (raw := transport.get_extra_info("socket")) is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER)


@contextlib.asynccontextmanager
async def write_deadline(request: web.Request) -> AsyncIterator[None]:
    """Drops the connection if the block, which writes to it, takes longer than `STUCK_SECONDS`.

    Raises: ConnectionResetError if it was dropped.
    """
    try:
        async with asyncio.timeout(STUCK_SECONDS):
            yield
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the client does not read") from None
