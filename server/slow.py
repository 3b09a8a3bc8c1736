"""The sockets that cannot be written to now: one timer looks after all of them.

A task for each would cost more than what it waits for. Where there is none, there is no timer.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol

STEP_SECONDS: Final = 0.05


class Behind(Protocol):
    """A socket whose client does not read as fast as it is written to."""

    def look(self, now: float) -> bool:
        """True if it has gone on, or is over: then nobody looks after it any more."""


class Slow:
    """All of a process."""

    def __init__(self) -> None:
        self._sockets: set[Behind] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._sockets)

    def watch(self, socket: Behind) -> None:
        """From now on the socket is looked at every `STEP_SECONDS`."""
        self._sockets.add(socket)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(STEP_SECONDS, self._look)

    def leave(self, socket: Behind) -> None:
        """The socket is over."""
        self._sockets.discard(socket)

    def _look(self) -> None:
        self._timer = None
        now = time.monotonic()
        for socket in list(self._sockets):
            if socket.look(now):
                self._sockets.discard(socket)
        if self._sockets:
            self._timer = asyncio.get_running_loop().call_later(STEP_SECONDS, self._look)
