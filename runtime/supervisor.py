"""Runs one program as several processes, because a Python process uses only one core.

The parent starts its children, forwards stop signals to them, and restarts those that die. Children
are started with `--child`: they share their port, and stop at the end of their standard input,
which the kernel closes when the parent dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import structlog

from .backoff import backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

log = structlog.get_logger()

MAX_PROCESSES: Final = 64
# The exit status of a child that would fail again; after any other status it is restarted.
CANNOT_START: Final = 3
RESTART_SECONDS: Final = (0.2, 10.0)
# A child that ran for longer did not die because of its start, so the backoff starts over.
STABLE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Children:
    """The settings for running children.

    `environ` is added to the environment of the parent. Children that still run `stop_seconds`
    after the first stop signal are killed.
    """

    stop_seconds: float
    environ: Mapping[str, str] = field(default_factory=dict)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs a coroutine to its end, on uvloop if it is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)


def handle_stop(on_signal: Callable[[], None], on_parent_gone: Callable[[], None] | None) -> None:
    """Calls `on_signal` for each SIGTERM and SIGINT.

    In a child, `on_parent_gone` is called once when the parent has died.
    """
    loop = asyncio.get_running_loop()
    for which in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(which, on_signal)
    if on_parent_gone is None:
        return
    gone = on_parent_gone

    def read() -> None:
        if not os.read(sys.stdin.fileno(), 1024):
            loop.remove_reader(sys.stdin.fileno())
            gone()

    loop.add_reader(sys.stdin.fileno(), read)


async def supervise(package: str, number: int, how: Children) -> int:
    """Keeps `number` children of `python -m package --child` running until a SIGTERM or SIGINT.

    Every signal is forwarded. Returns the exit status: 0 if all children exited with 0, else 1.
    """
    log.info("starting child processes", processes=number)
    command = [sys.executable, "-m", package, "--child"]
    environ = {**os.environ, **how.environ, "HOLDLINE_PROCESSES": "1"}
    children = [_Child(command, environ) for _ in range(number)]
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
        # `keep` ends by itself only if a child cannot start; then the others cannot start either.
        await asyncio.wait([asked, *kept], return_when=asyncio.FIRST_COMPLETED)
        if not stopping.is_set():
            stop(signal.SIGTERM)
        await asyncio.wait(kept, timeout=how.stop_seconds)
    finally:
        asked.cancel()
        for child in children:
            child.stop(signal.SIGKILL)
        statuses = await asyncio.gather(*kept)
        await asyncio.wait([asked])
    return 1 if any(statuses) else 0


class _Child:
    """One child process, and the processes that replace it when it dies."""

    def __init__(self, command: list[str], environ: Mapping[str, str]) -> None:
        self._command = command
        self._environ = environ
        self._stopping = asyncio.Event()
        self._stopped_by: signal.Signals | None = None
        self._process: asyncio.subprocess.Process | None = None

    def stop(self, which: signal.Signals) -> None:
        self._stopped_by = which
        self._stopping.set()
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(which)

    async def keep(self) -> int:
        """Restarts the process until it is stopped or cannot start. Returns its exit status."""
        deaths = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            status = await self._run()
            if status == CANNOT_START:
                return status
            if self._stopping.is_set():
                # SIGTERM kills a process that has not installed its handler yet.
                return 0 if status == -signal.SIGTERM else status
            deaths = 1 if time.monotonic() - began > STABLE_SECONDS else deaths + 1
            pause = backoff(deaths, *RESTART_SECONDS)
            pid = self._process.pid if self._process else 0
            log.error(
                "child process died: starting another one",
                pid=pid,
                exit_status=status,
                retry_ms=round(1000 * pause),
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
        return 0

    async def _run(self) -> int:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,  # closed by the kernel when the parent dies
            env=self._environ,
            start_new_session=True,  # only the parent receives Ctrl-C, and forwards it once
        )
        if self._stopped_by is not None:  # stopped while it was being started
            self._process.send_signal(self._stopped_by)
        return await self._process.wait()
