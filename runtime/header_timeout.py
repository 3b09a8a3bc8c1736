"""Closes connections whose clients do not send the head of their first request in time.

aiohttp alone would wait for an hour. The keep-alive timeout limits later heads.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from .loop import Loop

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from aiohttp.typedefs import Handler

LOOK_SECONDS: Final = 1.0


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
