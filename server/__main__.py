"""`python -m server`: one server process. `--check` says whether it could start, and stops."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys

import structlog
from aiohttp import web

from jobs.connect import Redis, check
from jobs.environment import ConfigError, hide
from jobs.errors import RedisTrouble
from jobs.pipe import Pipe

from .app import BACKLOG, SERVER, create_app
from .config import Config
from .doors import KEEP_ALIVE_SECONDS, LINGERING_SECONDS
from .logs import configure

log = structlog.get_logger()


async def _check(config: Config) -> str:
    async with Pipe(Redis(config.redis_url), deadline=4) as pipe:
        return await check(pipe)


async def _serve(config: Config) -> None:
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
    try:
        site = web.TCPSite(runner, config.host, config.port, backlog=BACKLOG)
        await site.start()
        host, port = runner.addresses[0][:2]
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
    arguments = parser.parse_args()
    configure()
    try:
        config = Config.from_environ(os.environ)
        if arguments.check:
            print(f"Redis at {hide(config.redis_url)}: {asyncio.run(_check(config))}")
            print(f"may come in: {config.access.described}")
            print(f"would listen on {config.host}:{config.port}; configuration is fine")
            return 0
        with contextlib.suppress(ImportError):
            import uvloop

            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(config))
            return 0
        asyncio.run(_serve(config))
    except (ConfigError, RedisTrouble) as error:
        print(f"server: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"server: cannot listen: {error.strerror}; HOLDLINE_PORT chooses another port",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
