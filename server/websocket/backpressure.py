"""Watches the sockets that are currently not writable, with one timer for all of them.

A task per socket would cost more than the check itself. The timer runs only while such sockets
exist. If nothing can be written to a connection for `STUCK_SECONDS`, the connection is dropped.
Half-open connections are detected in the same way.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol

from server.http.timeouts import STUCK_SECONDS

STEP_SECONDS: Final = 0.05


class CaughtUp(Protocol):
    """A callback that is called when the buffer is empty or the connection was dropped."""

    def __call__(self, *, stuck: bool) -> None: ...


class SlowConsumer:
    """A transport whose client reads more slowly than the server writes.

    The future `over` is done when the buffer is empty or the connection has ended.
    """

    __slots__ = ("_caught_up", "_left", "_since", "_transport", "over")

    def __init__(self, transport: asyncio.WriteTransport, caught_up: CaughtUp) -> None:
        self._transport = transport
        self._caught_up = caught_up
        self._left = transport.get_write_buffer_size()
        self._since = time.monotonic()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def look(self, now: float) -> bool:
        """Checks the transport; returns True if the transport needs no further checks.

        No further checks are needed once the buffer is empty, or the connection has ended or was
        dropped.
        """
        size = self._transport.get_write_buffer_size()
        stuck = size == self._left and now - self._since > STUCK_SECONDS
        if stuck or self._transport.is_closing():
            # Without an abort, the transport would wait until the peer has read the buffer, which a
            # dead peer never does.
            self._transport.abort()
        elif size:
            if size != self._left:
                self._left, self._since = size, now
            return False
        self.end()
        self._caught_up(stuck=stuck)
        return True

    def end(self) -> None:
        """Completes the future `over`, unless a cancelled waiter has already cancelled it."""
        if not self.over.done():
            self.over.set_result(None)


class SlowConsumers:
    """All slow consumers of a process."""

    def __init__(self) -> None:
        self._consumers: set[SlowConsumer] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._consumers)

    def watch(self, transport: asyncio.WriteTransport, caught_up: CaughtUp) -> SlowConsumer:
        """Starts checking a transport every `STEP_SECONDS`."""
        consumer = SlowConsumer(transport, caught_up)
        self._consumers.add(consumer)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(STEP_SECONDS, self._look)
        return consumer

    def leave(self, consumer: SlowConsumer) -> None:
        """Stops checking a transport when its socket ends."""
        self._consumers.discard(consumer)
        consumer.end()

    def _look(self) -> None:
        self._timer = None
        now = time.monotonic()
        for consumer in list(self._consumers):
            if consumer.look(now):
                self._consumers.discard(consumer)
        if self._consumers:
            self._timer = asyncio.get_running_loop().call_later(STEP_SECONDS, self._look)
