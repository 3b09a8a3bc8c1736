"""Timeouts for slow clients, and a limit on the rate at which a client's messages are read.

A connection is closed if its client does not send the head of the first request in time; aiohttp
alone would wait for an hour. The keep-alive timeout limits later heads, and `read_body` limits
bodies.
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
    from collections.abc import Awaitable, Iterator

    from aiohttp.typedefs import Handler

    from runtime.deadline import Deadline

# Proxies keep idle connections for up to a minute. This timeout is longer, so that the proxy closes
# first. If the server closed first, a request that is already under way would be lost.
KEEP_ALIVE_SECONDS: Final = 75.0
# The time allowed for reading the rest of a body that was refused early.
LINGERING_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 1.0
# A client that accepts no data for this long is disconnected.
STUCK_SECONDS: Final = 30.0
KERNEL_BUFFER: Final = 131_072


class HeaderTimeout:
    """Closes connections whose clients do not send the head of their first request in time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: dict[Any, float] = {}
        self._in: set[Any] = set()

    def middleware(self) -> Any:
        """Returns the middleware that records connections with a complete head.

        This must be the application's outermost middleware.
        """

        @web.middleware
        def enter(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
            # This is not a coroutine, because a coroutine's frame would stay in memory as long as a
            # socket is open.
            self._in.add(request.protocol)
            return handler(request)

        return enter

    def watch(self, runner: web.AppRunner) -> Loop:
        """Returns the loop that checks a server's connections at least once a second."""

        async def look() -> None:
            if runner.server is not None:
                self.look(runner.server.connections, time.monotonic())

        seconds = min(LOOK_SECONDS, self._seconds / 2)
        pause = (seconds, seconds)
        return Loop("header timeout", look, pause, first_pause=pause)

    def look(self, connections: list[Any], now: float) -> None:
        """Closes connections that exceeded the timeout, and forgets connections that are closed."""
        here = set(connections)
        self._in &= here
        self._waiting = {c: self._waiting.get(c, now) for c in here - self._in}
        for connection, since in self._waiting.items():
            if now - since > self._seconds and connection.transport is not None:
                connection.transport.abort()


class TokenBucket:
    """A token bucket that limits the rate of messages; `take` returns the required wait."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: int) -> None:
        """`rate` is in messages per second; `burst` is the number of messages allowed at once."""
        self._rate = rate
        self._burst = burst
        self._left = float(burst)
        self._at = 0.0

    def take(self, now: float) -> float:
        """Counts one message at time `now`, and returns the seconds until that message is due."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate) - 1
        self._at = now
        return max(0.0, -self._left / self._rate)


def bound_buffers(transport: asyncio.WriteTransport, high: int) -> None:
    """Limits the data that the process and the kernel buffer for a client that does not read.

    `drain` waits while the process buffers more than `high` bytes. Without a limit, the kernel
    would buffer megabytes per client.
    """
    transport.set_write_buffer_limits(high=high)
    if (raw := transport.get_extra_info("socket")) is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER)


@contextlib.contextmanager
def write_deadline(request: web.Request, deadline: Deadline) -> Iterator[None]:
    """Drops the connection if writing to it in the `with` block exceeds `STUCK_SECONDS`.

    Raises: ConnectionResetError if the connection was dropped.
    """
    try:
        with deadline.at(asyncio.get_running_loop().time() + STUCK_SECONDS):
            yield
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the client stopped reading") from None
