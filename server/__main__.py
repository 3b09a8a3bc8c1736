"""`python -m server`: a server. `--check` says whether it could start, and stops."""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
import sys
from typing import Final

import structlog
from aiohttp import web

from jobs.errors import RedisTrouble
from jobs.redis.check import check
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

from .app import BACKLOG, SERVER, create_app
from .config import Config
from .http.timeouts import KEEP_ALIVE_SECONDS, LINGERING_SECONDS

log = structlog.get_logger()

# A drain takes five seconds at most, or twice that on a busy machine.
STOP_SECONDS: Final = 12.0


async def _check(config: Config) -> str:
    async with redis_from_url(config.redis_url, config.cipher).pipe(deadline=4) as pipe:
        return await check(pipe)


def _tell_of_death(pid: int, status: int, seconds: float) -> None:
    log.error("a process died", process=pid, status=status, again_in=round(seconds, 1))


async def _supervise(config: Config) -> int:
    # Found to be taken here, and not by each child; a port of 0 is chosen here for all of them.
    with socket.create_server((config.host, config.port), family=_family(config.host)) as probe:
        port = probe.getsockname()[1]
    log.info("starting processes", processes=config.processes)
    return await supervise(
        __package__,
        config.processes,
        environ={"HOLDLINE_PORT": str(port)},
        stop_seconds=STOP_SECONDS,
        tell=_tell_of_death,
    )


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


async def _serve(config: Config, *, child: bool) -> None:
    app = create_app(config)
    runner = web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=2,
        keepalive_timeout=KEEP_ALIVE_SECONDS,
        lingering_time=LINGERING_SECONDS,
    )
    await runner.setup()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if child:
        stop_with_parent(stop.set)
    try:
        # Without `child` two servers on one port are a mistake, which is found here.
        site = web.TCPSite(runner, config.host, config.port, backlog=BACKLOG, reuse_port=child)
        await site.start()
        host, port = runner.addresses[0][:2]
        freeze_and_tune_gc()
        log.info("server ready", address=f"http://{host}:{port}")
        async with app[SERVER].doors.watch(runner):
            await stop.wait()
        await site.stop()  # nobody new; those who are here are told to go elsewhere
        await app[SERVER].drain()
    finally:
        await runner.cleanup()


def main() -> int:
    """Runs the server; 0 after a signal, 1 when it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m server", description=__doc__)
    parser.add_argument("--check", action="store_true", help="check configuration and Redis")
    add_arguments(parser)
    arguments = parser.parse_args()
    configure()
    disable_core_dumps()
    try:
        config = Config.from_environ(environ_of(arguments))
        if arguments.check:
            print(f"Redis at {hide(config.redis_url)}: {asyncio.run(_check(config))}")
            print(f"prompts and answers: {config.cipher or 'not encrypted'}")
            print(f"may come in: {config.access.described}")
            print(f"would listen on {config.host}:{config.port}; configuration is fine")
            return 0
        if config.processes > 1:
            return asyncio.run(_supervise(config))
        run(_serve(config, child=arguments.child))
    except (ConfigError, RedisTrouble) as error:
        print(f"server: {error}", file=sys.stderr)
        return CANNOT_START if arguments.child else 1
    except OSError as error:
        print(
            f"server: cannot listen: {error.strerror}; HOLDLINE_PORT chooses another port",
            file=sys.stderr,
        )
        return CANNOT_START if arguments.child else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
