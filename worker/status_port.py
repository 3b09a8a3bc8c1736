"""Serves `/livez`, `/readyz` and `/metrics` of a worker on `HOLDLINE_WORKER_PORT`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from jobs.main import CannotListen
from runtime.header_timeout import HeaderTimeout
from runtime.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .status import WorkerStatus

HEADER_SECONDS: Final = 5.0
KEEP_ALIVE_SECONDS: Final = 75.0
MAX_BODY_BYTES: Final = 1024
STATUS: Final = web.AppKey["WorkerStatus"]("status")

log = structlog.get_logger()


@contextlib.asynccontextmanager
async def listening(
    status: WorkerStatus, host: str, port: int, *, shared: bool
) -> AsyncIterator[None]:
    """Serves the routes in the `async with` block.

    With `shared`, several processes share the port. Raises: CannotListen if the port is not free.
    """
    timeout = HeaderTimeout(HEADER_SECONDS)
    app = web.Application(middlewares=[timeout.middleware()], client_max_size=MAX_BODY_BYTES)
    app[STATUS] = status
    app.router.add_get("/livez", _livez)
    app.router.add_get("/readyz", _readyz)
    app.router.add_get("/metrics", _metrics)
    runner = web.AppRunner(
        app, access_log=None, keepalive_timeout=KEEP_ALIVE_SECONDS, shutdown_timeout=1
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port, reuse_port=shared or None).start()
        except OSError as error:
            raise cannot_listen(error) from None
        async with timeout.watch(runner):
            yield
    finally:
        await runner.cleanup()


def cannot_listen(error: OSError) -> CannotListen:
    """Returns the error for a port that is in use or not permitted."""
    return CannotListen(
        f"cannot listen: {error.strerror}; change HOLDLINE_WORKER_HOST or HOLDLINE_WORKER_PORT"
    )


async def _livez(request: web.Request) -> web.StreamResponse:
    """Reports that the process is alive."""
    del request
    return web.json_response({"status": "ok"})


async def _readyz(request: web.Request) -> web.StreamResponse:
    """Reports whether the worker claims jobs."""
    ready, found = await request.app[STATUS].ready()
    return web.json_response(
        {"status": "ready" if ready else "not ready", **found}, status=200 if ready else 503
    )


async def _metrics(request: web.Request) -> web.StreamResponse:
    """Returns the metrics in the Prometheus text format."""
    body = request.app[STATUS].metrics_page()
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})
