"""`python -m worker`: a worker. `--check` says whether it could start, and stops."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import structlog

from jobs.errors import RedisAway, RedisTrouble
from jobs.hooks import Hooks
from jobs.names import Partition
from jobs.queue import Queue
from jobs.redis.check import check, check_until_available
from jobs.redis.subscriber import Subscriber
from jobs.redis.url import redis_from_url
from jobs.settings import ConfigError
from jobs.shared_config import hide
from runtime.core_dumps import disable_core_dumps
from runtime.gc_tuning import freeze_and_tune_gc
from runtime.logs import configure
from runtime.supervisor import (
    CANNOT_START,
    add_arguments,
    environ_of,
    run,
    stop_with_parent,
    supervise,
)

from .compactor import Compactor
from .config import Config, load
from .context import WorkerContext
from .outcome import Policy
from .rescue import Rescue
from .upstream.router import Router
from .webhooks.client import WebhookClient
from .webhooks.dispatcher import WebhookDispatcher
from .worker import Worker

if TYPE_CHECKING:
    from collections.abc import Awaitable

log = structlog.get_logger()

# A blocking pop of one second has its reply well within this; a stopped Redis is found by it.
BLOCKING_SECONDS = 4.0
# After the grace: giving back takes three seconds, and more on a busy machine.
STOP_SECONDS = 8.0


async def _check(config: Config) -> str:
    async with redis_from_url(config.redis_url, config.cipher).pipe(
        deadline=BLOCKING_SECONDS
    ) as pipe:
        return await check(pipe)


def _tell_of_absence(error: RedisAway) -> None:
    log.warning("waiting for Redis", why=str(error))


def _tell_of_death(pid: int, status: int, seconds: float) -> None:
    log.error("a process died", process=pid, status=status, again_in=round(seconds, 1))


async def _supervise(config: Config) -> int:
    log.info("starting processes", processes=config.processes)
    return await supervise(
        __package__,
        config.processes,
        environ={},
        stop_seconds=config.grace + STOP_SECONDS,
        tell=_tell_of_death,
    )


async def _serve(config: Config, *, child: bool) -> None:
    redis = redis_from_url(config.redis_url, config.cipher)
    quiet, stop = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (stop if quiet.is_set() else quiet).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    if child:
        stop_with_parent(quiet.set)
    async with (
        redis.pipe() as pipe,
        redis.pipe(deadline=BLOCKING_SECONDS) as waiting,
        Router(config) as router,
        Compactor() as compactor,
    ):
        found = await _unless(quiet, check_until_available(pipe, _tell_of_absence))
        if found is None:
            return
        queue = Queue(pipe, config.shared)
        policy = Policy(max_attempts=config.shared.max_attempts)
        context = WorkerContext(config, pipe, queue, router, policy, compactor)
        bell = Subscriber(
            redis,
            probe=Partition(0).probe(secrets.token_hex(8)),
            publish=lambda channel, message: pipe.call("PUBLISH", channel, message),
        )
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(bell)
            rescue = await stack.enter_async_context(Rescue(context))
            if config.receiver is not None:
                post = WebhookClient(allow_private=config.receiver.allow_private)
                await stack.enter_async_context(post)
                courier = WebhookDispatcher(
                    Hooks(pipe), post, config.receiver, config.shared.partitions
                )
                await stack.enter_async_context(courier)
            worker = Worker(context, waiting, bell, rescue, quiet, stop)
            freeze_and_tune_gc()
            log.info("worker ready", redis=found, concurrency=config.concurrency)
            await worker.run()
            log.info("worker stopped")


async def _unless(event: asyncio.Event, awaitable: Awaitable[str]) -> str | None:
    """What the awaitable gives, or None if the event comes first."""
    asked, told = asyncio.ensure_future(awaitable), asyncio.create_task(event.wait())
    try:
        await asyncio.wait({asked, told}, return_when=asyncio.FIRST_COMPLETED)
        return asked.result() if asked.done() else None
    finally:
        for task in (asked, told):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, RedisTrouble):
                await task


def main() -> int:
    """Runs the worker; 0 after a signal, 1 when it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    parser.add_argument("--check", action="store_true", help="check configuration and Redis")
    add_arguments(parser)
    arguments = parser.parse_args()
    configure()
    disable_core_dumps()
    try:
        config = load(environ_of(arguments))
        if arguments.check:
            print(f"Redis at {hide(config.redis_url)}: {asyncio.run(_check(config))}")
            print(f"prompts and answers: {config.cipher or 'not encrypted'}")
            for endpoint in [config.single] if config.single else config.endpoints.values():
                at = hide(endpoint.base_url) if endpoint.base_url else "OpenAI's endpoint"
                print(f"{endpoint.name or 'model'} at {at}")
            print("configuration is fine")
            return 0
        if config.processes > 1:
            return asyncio.run(_supervise(config))
        run(_serve(config, child=arguments.child))
    except (ConfigError, RedisTrouble) as error:
        print(f"worker: {error}", file=sys.stderr)
        return CANNOT_START if arguments.child else 1
    return 0


def leave(status: int) -> NoReturn:
    """Ends the process at once.

    Taking apart what the SDK has built costs Python a quarter of a second of CPU, which on a busy
    machine are seconds in which a worker that has stopped seems to hang.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    leave(main())
