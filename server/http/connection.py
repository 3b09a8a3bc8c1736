"""HTTP connections that answer malformed HTTP with an error in the standard's shape."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any, Final

import structlog
from aiohttp import web

from server.api.frames import encode
from server.api.problem import Problem

from .timeouts import KEEP_ALIVE_SECONDS, LINGERING_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

OPTIONS: Final[dict[str, Any]] = {
    "access_log": None,
    "auto_decompress": False,
    "keepalive_timeout": KEEP_ALIVE_SECONDS,
    "lingering_time": LINGERING_SECONDS,
}

log = structlog.get_logger()


class Connection(web.RequestHandler):
    """An HTTP connection that answers all errors in JSON, even errors outside of any route.

    aiohttp itself would answer in plain text and log a traceback with the malformed line, which can
    be a header with a credential.
    """

    __slots__ = ()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Breaks the reference cycle between a WebSocket and its connection.

        Otherwise both would stay in memory until the garbage collector finds the cycle.
        """
        super().connection_lost(exc)
        self._data_received_cb = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answers malformed HTTP, or an exception that no middleware handled.

        Raises: ConnectionError if a response has begun, so the connection can only be closed.
        """
        del message  # the message quotes the request
        if status >= 500:
            log.error(
                "unhandled error in request handler: request failed",
                path=request.path,
                error=exc and type(exc).__name__,
                exc_info=exc,
            )
        if exc is not None:
            # The traceback's frames refer to the exception, which is a reference cycle.
            exc.__traceback__ = None
        if request.writer.output_size > 0:
            raise ConnectionError
        if status >= 500:
            problem = Problem(
                500, "internal_error", "The server encountered an internal error. Try again."
            )
        else:
            problem = Problem(status, "http_error", "The HTTP request is invalid.")
        answer = web.Response(
            status=problem.status,
            headers={"X-Content-Type-Options": "nosniff"},
            body=encode({"error": problem.error}),
            content_type="application/json",
        )
        answer.force_close()
        return answer

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Writes the response, and converts a refusal by aiohttp itself to JSON.

        For example, aiohttp answers an unknown `Expect` header in plain text.
        """
        if isinstance(resp, web.HTTPException) and resp.status >= 400:
            resp = self.handle_error(request, resp.status)
        return await super().finish_response(request, resp, start_time)


def _factory(runner: web.AppRunner, loop: asyncio.AbstractEventLoop) -> Callable[[], Connection]:
    server = runner.server
    if server is None:
        raise RuntimeError("the runner must be set up before it listens")
    return lambda: Connection(server, loop=loop, **OPTIONS)


async def listen(
    runner: web.AppRunner, host: str, port: int, **options: Any
) -> asyncio.base_events.Server:
    """Starts listening for an application's connections.

    `web.TCPSite` is not used, because it does not accept a connection class.
    """
    loop = asyncio.get_running_loop()
    return await loop.create_server(_factory(runner, loop), host, port, **options)


async def stop_listening(runner: web.AppRunner, listener: asyncio.Server) -> None:
    """Stops listening, and serves the connections that the kernel has accepted so far.

    If only the listener were closed, these connections would be reset, along with requests that
    proxies must not send again.
    """
    loop = asyncio.get_running_loop()
    rest = [socket.socket(fileno=os.dup(one.fileno())) for one in listener.sockets]
    # Closing the listener leaves the duplicated sockets open.
    listener.close()
    accepted = []
    for one in rest:
        with one, contextlib.suppress(OSError):
            while True:
                accepted.append(one.accept()[0])
    for connection in accepted:
        connection.setblocking(False)
        await loop.connect_accepted_socket(_factory(runner, loop), connection)
