"""Timeouts for slow clients, and a limit on the rate at which a client's messages are read.

`runtime.header_timeout` limits the head of the first request on a connection, the keep-alive
timeout limits later heads, and `read_body` limits bodies.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from runtime.deadline import Deadline

# Proxies keep idle connections for up to a minute. This timeout is longer, so that the proxy closes
# first. If the server closed first, a request that is already under way would be lost.
KEEP_ALIVE_SECONDS: Final = 75.0
# The time allowed for reading the rest of a body that was refused early.
LINGERING_SECONDS: Final = 2.0
# A client that accepts no data for this long is disconnected.
STUCK_SECONDS: Final = 30.0
KERNEL_BUFFER: Final = 131_072


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


async def write_in_time(request: web.Request, deadline: Deadline, written: Awaitable[None]) -> None:
    """Awaits a write to a connection, and drops the connection after `STUCK_SECONDS`.

    Raises: ConnectionResetError if the connection was dropped.
    """
    try:
        with deadline.at(asyncio.get_running_loop().time() + STUCK_SECONDS):
            await written
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the client stopped reading") from None
