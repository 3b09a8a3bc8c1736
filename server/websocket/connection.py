"""The connection of one WebSocket: its upgrade, its tasks and its end."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from server.api.encoding import Encoding

    from .auth import SocketAuth
    from .services import Services

CLOSE_SECONDS: Final = 2.0

log = structlog.get_logger()


class SocketConnection(ABC):
    """The connection of one client, on any route. A subclass handles its messages.

    The subclass is a `Connection` of its `SocketAuth`, so it also has the method `say`.
    """

    __slots__ = (
        "_auth",
        "_closing",
        "_extended",
        "_metrics",
        "_services",
        "_tasks",
        "_transport",
        "_ws",
    )

    def __init__(
        self, auth: SocketAuth, services: Services, encoding: Encoding, subprotocol: str | None
    ) -> None:
        """`subprotocol` is the one that was chosen from the client's offers, or None."""
        self._auth = auth
        # True if the client understands messages whose type begins with `EXTENSION`.
        self._extended = subprotocol is not None
        self._services = services
        self._metrics = services.metrics
        self._ws = web.WebSocketResponse(
            timeout=CLOSE_SECONDS,
            heartbeat=services.config.ping_seconds,
            # The subclass answers pings.
            autoping=False,
            compress=False,
            max_msg_size=services.config.max_body_bytes,
            protocols=(encoding.subprotocol,),
        )
        if subprotocol is not None:
            self._ws.headers["Sec-WebSocket-Protocol"] = subprotocol
        self._transport: asyncio.Transport | None = None
        # A dict, because an empty set takes three times the memory of an empty dict.
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._closing: asyncio.Task[None] | None = None

    @abstractmethod
    async def _serve_client(self, transport: asyncio.Transport) -> None:
        """Handles the client's messages until the connection ends."""

    @abstractmethod
    async def _leave(self) -> None:
        """Ends the tasks and the followers after the connection has ended."""

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Upgrades the request, and returns after the connection has ended and is cleaned up."""
        await self._ws.prepare(request)
        transport = request.transport
        if transport is None:
            return self._ws
        self._transport = transport
        self._metrics.sockets.inc()
        try:
            await self._serve_client(transport)
        except Exception as error:
            # After the upgrade, no HTTP response can report the error, so it is logged.
            log.exception(
                "unhandled error in WebSocket session: WebSocket closed", error=type(error).__name__
            )
            transport.abort()
        finally:
            self._metrics.sockets.dec()
            await self._leave()
            lost = self._ws.exception()
            # The stack frames refer to the WebSocket, which keeps the exception: a reference cycle.
            while lost is not None:
                lost.__traceback__ = None
                lost = lost.__context__
        return self._ws

    async def close(self, code: int, reason: str) -> None:
        """Closes the socket, and waits until the client has closed its side.

        Without the wait, the client might not receive the close code.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(code, reason), name="close")
        await asyncio.wait([self._closing])

    async def _close(self, code: int, reason: str) -> None:
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(CLOSE_SECONDS + 1):
                await self._ws.close(code=code, message=reason.encode())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Starts a task that ends with the socket."""
        task = asyncio.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()):
            log.error(
                "unhandled error in message handler: WebSocket closed",
                error=type(error).__name__,
                exc_info=error,
            )
            if self._transport is not None:
                self._transport.abort()
