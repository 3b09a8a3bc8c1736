"""Runs a server, which accepts requests and streams responses. See docs/configure.md."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web

from jobs.main import CannotListen, Program
from jobs.redis.connection import join_host_port
from jobs.redis.startup import result_unless_set
from runtime import command_line
from runtime.gc_tuning import freeze_and_tune_gc
from runtime.service_manager import report_ready
from runtime.supervisor import Children, handle_stop

from .app import BACKLOG, SERVER, create_app
from .config import Config
from .http.connection import listen, stop_listening

log = structlog.get_logger()

ABOUT: Final = """\
Runs a server, which accepts requests and streams responses.

SIGTERM and Ctrl-C stop it: the server lets its clients finish their streams, for as long as
HOLDLINE_SHUTDOWN_GRACE_SECONDS. A second signal ends it sooner.

examples:
  holdline server                              listen on 127.0.0.1:8080
  HOLDLINE_PORT=8081 holdline server           listen on another port
  REDIS_URL=redis://redis:6379 holdline server --processes 4\
"""
# A drain takes up to five seconds longer than the grace period, or about ten on a busy machine.
STOP_SECONDS: Final = 12.0
# The time for requests on connections that were opened just before the end of a delayed stop.
LAST_REQUEST_SECONDS: Final = 0.3


class _Server(Program[Config]):
    def load(self, environ: Mapping[str, str]) -> Config:
        return Config.from_environ(environ)

    async def summary(
        self, config: Config, *, connect: bool, ask_models: bool
    ) -> AsyncIterator[str]:
        del connect, ask_models
        yield f"allowed clients: {config.access.described}"
        yield f"address: {join_host_port(config.host, config.port)}"

    def children(self, config: Config) -> Children:
        # Checks once, for all children, that the port is free, and replaces port 0 by an actual
        # port.
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        try:
            with socket.create_server((config.host, config.port), family=family) as probe:
                port = probe.getsockname()[1]
        except OSError as error:
            raise _cannot_listen(error) from None
        seconds = config.delay_seconds + config.grace_seconds + STOP_SECONDS
        return Children(seconds, {"HOLDLINE_PORT": str(port)})

    async def serve(self, config: Config, *, child: Path | None) -> None:
        app = create_app(config, child)
        runner = web.AppRunner(app, shutdown_timeout=2)
        await runner.setup()
        stop, hurry = asyncio.Event(), asyncio.Event()

        def on_signal() -> None:
            if stop.is_set():
                hurry.set()
                app[SERVER].streams.hurry()
            stop.set()

        handle_stop(on_signal, stop.set if child else None)
        try:
            # Only child processes share a port, so starting a second server on the same port fails
            # here.
            try:
                listener = await listen(
                    runner, config.host, config.port, backlog=BACKLOG, reuse_port=child is not None
                )
            except OSError as error:
                raise _cannot_listen(error) from None
            url = f"http://{join_host_port(*listener.sockets[0].getsockname()[:2])}"
            log.info("server listening", url=url)
            async with app[SERVER].header_timeout.watch(runner):
                if await result_unless_set(stop, app[SERVER].connecting) is not None:
                    freeze_and_tune_gc()
                    log.info("server ready", url=url)
                    report_ready()
                await stop.wait()
                app[SERVER].stopping = True
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(hurry.wait(), config.delay_seconds)
            await stop_listening(runner, listener)
            if config.delay_seconds and not hurry.is_set():
                await asyncio.sleep(LAST_REQUEST_SECONDS)
            await app[SERVER].drain()
        finally:
            await runner.cleanup()


def _cannot_listen(error: OSError) -> CannotListen:
    return CannotListen(f"cannot listen: {error.strerror}; change HOLDLINE_HOST or HOLDLINE_PORT")


PROGRAM: Final = _Server("server", __package__, ABOUT)

if __name__ == "__main__":
    sys.exit(command_line.run(PROGRAM.command(), f"python -m {__package__}"))
