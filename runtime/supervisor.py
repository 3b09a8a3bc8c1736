"""One program as several processes, because Python uses one core.

The parent does nothing but keep its children: it starts them, passes on the signals that ask them
to stop, and starts anew whoever died. A child knows by `--child` that it is one: it shares what it
listens on, and stops when its parent is gone, which it sees by the end of its standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from .backoff import backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    Tell = Callable[[int, int, float], None]

SETTING: Final = "HOLDLINE_PROCESSES"
MAX_PROCESSES: Final = 64
# How a child ends that would end in the same way again; any other death is worth another start.
CANNOT_START: Final = 3
RESTART_SECONDS: Final = (0.2, 10.0)
# Whoever lived so long did not die of how it started.
LIVED_SECONDS: Final = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command line says of processes."""
    parser.add_argument("--processes", metavar="N", help="as so many processes, one a core")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)


def environ_of(arguments: argparse.Namespace) -> dict[str, str]:
    """The environment, in which the command line has the last word."""
    if arguments.processes is None:
        return dict(os.environ)
    return {**os.environ, SETTING: arguments.processes}


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs this to its end, on uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)


def stop_with_parent(stop: Callable[[], None]) -> None:
    """Calls `stop` once when the parent of this child is gone."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        if not os.read(sys.stdin.fileno(), 1024):
            loop.remove_reader(sys.stdin.fileno())
            stop()

    loop.add_reader(sys.stdin.fileno(), read)


async def supervise(
    module: str, number: int, *, environ: Mapping[str, str], stop_seconds: float, tell: Tell
) -> int:
    """Keeps so many children of `python -m module --child` until a SIGTERM or SIGINT.

    `environ` is what they are told besides our own environment. A second signal is passed on as
    well; children that are still there `stop_seconds` after the first one are killed.
    `tell(pid, status, seconds)` is called when a child died that nobody had asked to, with the
    seconds until it is started anew.

    Returns the exit status: 0 if all ended as they were asked to, else 1.
    """
    command = [sys.executable, "-m", module, "--child"]
    inherited = {**os.environ, **environ, SETTING: "1"}
    children = [_Child(command, inherited, tell) for _ in range(number)]
    stopping = asyncio.Event()

    def stop(which: signal.Signals) -> None:
        stopping.set()
        for child in children:
            child.stop(which)

    loop = asyncio.get_running_loop()
    for which in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(which, stop, which)
    asked = asyncio.create_task(stopping.wait())
    kept = [asyncio.create_task(child.keep()) for child in children]
    try:
        # A child gives up only where it cannot start, and then the others cannot either.
        await asyncio.wait([asked, *kept], return_when=asyncio.FIRST_COMPLETED)
        if not stopping.is_set():
            stop(signal.SIGTERM)
        await asyncio.wait(kept, timeout=stop_seconds)
    finally:
        asked.cancel()
        for child in children:
            child.stop(signal.SIGKILL)
        statuses = await asyncio.gather(*kept)
        await asyncio.wait([asked])
    return 1 if any(statuses) else 0


class _Child:
    """One process, and whoever follows it when it dies."""

    def __init__(self, command: list[str], environ: Mapping[str, str], tell: Tell) -> None:
        self._command = command
        self._environ = environ
        self._tell = tell
        self._stopping = asyncio.Event()
        self._stopped_by: signal.Signals | None = None
        self._process: asyncio.subprocess.Process | None = None

    def stop(self, which: signal.Signals) -> None:
        self._stopped_by = which
        self._stopping.set()
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(which)

    async def keep(self) -> int:
        """The status of the process that was asked to stop, or that cannot start."""
        deaths = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            status = await self._run()
            if status == CANNOT_START:
                return status
            if self._stopping.is_set():
                # A signal that comes before there is anybody to hear it ends a process as well.
                return 0 if status == -signal.SIGTERM else status
            deaths = 1 if time.monotonic() - began > LIVED_SECONDS else deaths + 1
            pause = backoff(deaths, *RESTART_SECONDS)
            self._tell(self._process.pid if self._process else 0, status, pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
        return 0

    async def _run(self) -> int:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,  # it ends with us, whatever ends us
            env=self._environ,
            start_new_session=True,  # Ctrl-C is ours to hear, and to pass on once
        )
        if self._stopped_by is not None:  # asked while it was being started
            self._process.send_signal(self._stopped_by)
        return await self._process.wait()
