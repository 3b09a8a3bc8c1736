"""Defines the processes that `holdline up` runs, and the readiness check of each."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping

from runtime.command_line import module_command

from .embedded import Embedded
from .supervise import Child, Running

WORKER_SECONDS = 0.3
# The command `holdline` of this installation.
HOLDLINE = tuple(module_command(__name__.removesuffix(".up.children")))


def redis_server(embedded: Embedded) -> Child:
    async def ready(_running: Running) -> bool:
        return await asyncio.to_thread(embedded.answers)

    return Child(
        "redis",
        embedded.argv,
        ready,
        os.environ,
        outlives=True,
        pdeathsig=signal.SIGTERM,  # SIGTERM lets Redis finish writing its append-only file.
        pass_fds=[embedded.lock],
        last_words=embedded.last_words,
    )


def demo_model(environ: Mapping[str, str]) -> tuple[Child, dict[str, str]]:
    """Returns the simulated model, and an environment in which other processes use this model."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    inner = {
        **environ,
        "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1",
        "OPENAI_API_KEY": "demo",
        "HOLDLINE_MODEL": environ.get("HOLDLINE_MODEL") or "holdline-demo",
    }
    argv = [*HOLDLINE, "demo-model", "--port", str(port)]
    ready = answers_200("127.0.0.1", port, "/v1/models")
    return Child("model", argv, ready, environ, outlives=True), inner


def server(environ: Mapping[str, str], host: str, port: int) -> Child:
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    ready = answers_200(reached, port, "/readyz")
    return Child("server", [*HOLDLINE, "server"], ready, environ, reloads=True)


def worker(environ: Mapping[str, str]) -> Child:
    async def ready(running: Running) -> bool:
        # A worker listens on no port, so the check looks for its log line. The worker must also
        # have run for a moment, because it could still exit right after it has logged the line.
        lived = time.monotonic() - running.since
        return lived > WORKER_SECONDS and any("worker ready" in line for line in running.heard)

    logging = {**environ, "HOLDLINE_LOG_LEVEL": "info"}  # the line that shows the readiness
    return Child("worker", [*HOLDLINE, "worker"], ready, logging, reloads=True)


def answers_200(host: str, port: int, path: str) -> Callable[[Running], Awaitable[bool]]:
    async def ready(_running: Running) -> bool:
        request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
        try:
            async with asyncio.timeout(2.0):
                reader, writer = await asyncio.open_connection(host, port)
                try:
                    writer.write(request.encode())
                    return b" 200 " in await reader.readline()
                finally:
                    writer.close()
        except OSError:  # TimeoutError is a subclass of OSError.
            return False

    return ready
