"""Runs a worker, which takes prompts from the queue and calls models. See docs/configure.md."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from typing import TYPE_CHECKING, Final, NoReturn

import structlog

from jobs.config.shared_config import hide
from jobs.main import Program, ServiceUnavailable
from jobs.notifications import subscriber
from jobs.queue import Queue
from jobs.redis.check import check_until_available
from jobs.redis.startup import report_unavailable, result_unless_set
from jobs.redis.url import redis_from_url
from runtime import command_line
from runtime.gc_tuning import freeze_and_tune_gc
from runtime.service_manager import report_ready
from runtime.supervisor import Children, handle_stop

from .append_interval import AppendInterval
from .compactor import Compactor
from .config import Config, Endpoint, load
from .context import WorkerContext
from .conversation_settler import conversation_settler
from .dispatchers import dispatchers
from .metrics import WorkerMetrics
from .outcome import Policy
from .probe import probe_models
from .rescue import Rescue
from .status import WorkerStatus
from .upstream.credentials import KeyUnavailable, credential_of
from .upstream.router import Router
from .worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

log = structlog.get_logger()

ABOUT: Final = """\
Runs a worker, which takes prompts from the queue and calls models.

The first SIGTERM or Ctrl-C lets the running responses end, for as long as
HOLDLINE_SHUTDOWN_GRACE_SECONDS; the second one returns them to the queue.

examples:
  OPENAI_API_KEY=... HOLDLINE_MODEL=gpt-4.1-mini holdline worker
  OPENAI_BASE_URL=http://127.0.0.1:11434/v1 HOLDLINE_MODEL=llama3.2 holdline worker
  HOLDLINE_MODELS=models.toml holdline worker --processes 4\
"""
# The supervisor kills a worker that still runs this long after the grace period. A worker returns
# its unfinished jobs to the queue within three seconds, or later on a busy machine.
STOP_SECONDS = 8.0


class _Worker(Program[Config]):
    def load(self, environ: Mapping[str, str]) -> Config:
        return load(environ)

    def leave(self, status: int) -> NoReturn:
        """Exits the process at once and skips Python's teardown.

        The OpenAI SDK needs a quarter of a second of CPU time for its teardown. On a busy machine
        this takes several seconds, during which a stopped worker would seem to hang.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    async def summary(
        self, config: Config, *, connect: bool, ask_models: bool
    ) -> AsyncIterator[str]:
        for endpoint in [config.single] if config.single else config.endpoints.values():
            at = hide(endpoint.base_url) if endpoint.base_url else "OpenAI's endpoint"
            # A command that prints a key may ask another machine for it.
            reads_key = endpoint.api_key_file or (connect and endpoint.api_key_command)
            read = await _read_key(endpoint) if reads_key else ""
            yield f"{endpoint.name or 'model'} at {at}{read}"
        if ask_models:
            for line in await _asked(config):
                yield line

    def children(self, config: Config) -> Children:
        # Checks once, for all children, that the port is free.
        if config.port:
            from .status_port import cannot_listen

            family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
            try:
                socket.create_server((config.host, config.port), family=family).close()
            except OSError as error:
                raise cannot_listen(error) from None
        return Children(config.grace + STOP_SECONDS)

    async def serve(self, config: Config, *, child: Path | None) -> None:
        redis = redis_from_url(config.redis_url, config.cipher)
        metrics = WorkerMetrics(config.model_names)
        quiet, stop = asyncio.Event(), asyncio.Event()

        def on_signal() -> None:
            (stop if quiet.is_set() else quiet).set()

        handle_stop(on_signal, quiet.set if child else None)
        async with (
            redis.pipe() as pipe,
            Router(config, metrics) as router,
            Compactor() as compactor,
            WorkerStatus(metrics, pipe, router, child) as status,
            _status_port(status, config, shared=child is not None),
        ):
            checked = check_until_available(pipe, report_unavailable)
            found = await result_unless_set(quiet, checked)
            if found is None:
                return
            queue = Queue(pipe, config.shared)
            policy = Policy(max_attempts=config.shared.max_attempts)
            interval = AppendInterval(time.monotonic())
            context = WorkerContext(
                config, pipe, queue, router, policy, compactor, interval, metrics
            )
            async with contextlib.AsyncExitStack() as stack:
                notifications = subscriber(redis, pipe, config.shared.partitions)
                await stack.enter_async_context(notifications)
                rescue = await stack.enter_async_context(Rescue(context))
                await stack.enter_async_context(conversation_settler(context))
                await stack.enter_async_context(dispatchers(context))
                worker = status.worker = Worker(context, notifications, rescue, quiet, stop)
                freeze_and_tune_gc()
                log.info("worker ready", redis=found, concurrency=config.concurrency)
                report_ready()
                await worker.run()
                log.info("worker stopped")


def _status_port(
    status: WorkerStatus, config: Config, *, shared: bool
) -> contextlib.AbstractAsyncContextManager[None]:
    if not config.port:
        return contextlib.nullcontext()
    # A worker without a port saves the memory and the import of aiohttp's server.
    from .status_port import listening

    return listening(status, config.host, config.port, shared=shared)


async def _asked(config: Config) -> list[str]:
    """Sends each model a test prompt, and returns one line with the result for each model.

    Raises: ServiceUnavailable if a model does not answer.
    """
    found = [each async for each in probe_models(config)]
    if failures := [line for fine, line in found if not fine]:
        raise ServiceUnavailable("; ".join(failures))
    return [line for _, line in found]


async def _read_key(endpoint: Endpoint) -> str:
    """Reads an endpoint's API key from its file or command, and returns a note of it.

    Raises: ServiceUnavailable if the key cannot be read.
    """
    credential = credential_of(endpoint)
    try:
        await credential.key()
    except KeyUnavailable as error:
        raise ServiceUnavailable(f"[models.{endpoint.name}] {error}") from None
    finally:
        await credential.close()
    return ", API key read"


PROGRAM: Final = _Worker("worker", __package__, ABOUT)

if __name__ == "__main__":
    sys.exit(command_line.run(PROGRAM.command(), f"python -m {__package__}"))
