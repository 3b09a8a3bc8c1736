"""The sockets that cannot be written to now: one timer looks after all of them.

A task for each would cost more than what it waits for. Where there is none, there is no timer. If
nothing at all can be written for `STUCK_SECONDS`, the connection is dropped; a half-open one is
found in this way too.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol

from server.http.timeouts import STUCK_SECONDS

STEP_SECONDS: Final = 0.05


class CaughtUp(Protocol):
    """What is called when the buffer is empty, or the connection was dropped."""

    def __call__(self, *, stuck: bool) -> None: ...


class SlowConsumer:
    """A transport whose client does not read as fast as it is written to.

    `over` is done when the buffer is empty or the connection is over.
    """

    __slots__ = ("_caught_up", "_left", "_since", "_transport", "over")

    def __init__(self, transport: asyncio.WriteTransport, caught_up: CaughtUp) -> None:
        self._transport = transport
        self._caught_up = caught_up
        self._left = transport.get_write_buffer_size()
        self._since = time.monotonic()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def look(self, now: float) -> bool:
        """True if it has gone on, or is over: then nobody looks after it any more."""
        size = self._transport.get_write_buffer_size()
        stuck = size == self._left and now - self._since > STUCK_SECONDS
        if stuck or self._transport.is_closing():
            # It would stay open until a dead peer has read the rest.
            self._transport.abort()
        elif size:
            if size != self._left:
                self._left, self._since = size, now
            return False
        self.end()
        self._caught_up(stuck=stuck)
        return True

    def end(self) -> None:
        """Whoever waits for `over` goes on; who was cancelled meanwhile has cancelled it."""
        if not self.over.done():
            self.over.set_result(None)


class SlowConsumers:
    """All of a process."""

    def __init__(self) -> None:
        self._consumers: set[SlowConsumer] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._consumers)

    def watch(self, transport: asyncio.WriteTransport, caught_up: CaughtUp) -> SlowConsumer:
        """From now on the transport is looked at every `STEP_SECONDS`."""
        consumer = SlowConsumer(transport, caught_up)
        self._consumers.add(consumer)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(STEP_SECONDS, self._look)
        return consumer

    def leave(self, consumer: SlowConsumer) -> None:
        """Its socket is over."""
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
