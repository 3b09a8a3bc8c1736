"""Runs one program as several processes, because a Python process uses only one core.

The parent process starts its child processes, forwards stop signals to them, and restarts each
child that dies or hangs. It starts them with the argument `--child FILE`, with which they share one
port. The standard input of a child is a socket: the child sends its heartbeats through it, and
stops when the kernel closes it, because the parent has died. Each child writes its metrics to its
FILE, in a temporary folder of the parent (see `metrics_files`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
import time
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from .backoff import backoff
from .command_line import FAILED, INVALID_SETTINGS, module_command
from .heartbeat import listening
from .metrics_files import merge_ended
from .service_manager import watched

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping

log = structlog.get_logger()

MAX_PROCESSES: Final = 64
# The exit status of a child process that cannot start, for example because Redis is unsuitable. The
# parent restarts neither such a child nor one with invalid settings, but any other child that ends.
CANNOT_START: Final = 3
RESTART_SECONDS: Final = (0.2, 10.0)
# The same limit as `WatchdogSec=` in the units of systemd.
SILENT_SECONDS: Final = 60.0
# If a child process ran for longer than this, its start was successful. After its death, the
# restart delay begins at the minimum again.
STABLE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Children:
    """The settings with which a parent process runs its child processes.

    `environ` is added to the parent's environment variables. If children are still running
    `stop_seconds` after the first stop signal, the parent kills them. A child that sends no
    heartbeat for `silent_seconds` is killed too, and another one takes its place.
    """

    stop_seconds: float
    environ: Mapping[str, str] = field(default_factory=dict)
    silent_seconds: float = SILENT_SECONDS


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs a coroutine until it ends, in the event loop of uvloop if that is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)


def handle_stop(on_signal: Callable[[], None], on_parent_gone: Callable[[], None] | None) -> None:
    """Installs handlers for stop signals: each SIGTERM or SIGINT calls `on_signal`.

    In a child process, the death of the parent calls `on_parent_gone` once. In other processes,
    pass None.
    """
    loop = asyncio.get_running_loop()
    for which in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(which, on_signal)
    if on_parent_gone is None:
        return
    gone = on_parent_gone

    def read() -> None:
        try:
            ended = not os.read(sys.stdin.fileno(), 1024)
        except BlockingIOError:
            return
        except ConnectionResetError:  # the parent has died before it had read the last heartbeats
            ended = True
        if ended:
            loop.remove_reader(sys.stdin.fileno())
            gone()

    loop.add_reader(sys.stdin.fileno(), read)


async def supervise(package: str, number: int, how: Children) -> int:
    """Runs `number` child processes of `python -m package --child` until SIGTERM or SIGINT arrives.

    Forwards each of these signals to all children. Returns the exit status for the parent: 0 if
    all children exited with 0, 78 if a child has found invalid settings, else 1.
    """
    log.info("starting child processes", processes=number)
    with tempfile.TemporaryDirectory(prefix="holdline-", ignore_cleanup_errors=True) as folder:
        command = [*module_command(package), "--child"]
        environ = {**os.environ, **how.environ, "HOLDLINE_PROCESSES": "1"}
        files = (Path(folder) / str(number) for number in count())
        silent = how.silent_seconds
        children = [_Child(command, environ, files, silent) for _ in range(number)]
        return await _supervise(children, how.stop_seconds)


async def _supervise(children: list[_Child], stop_seconds: float) -> int:
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
        # `keep` ends without a signal only if a child cannot start. The other children cannot start
        # either then, so all of them are stopped.
        async with watched():
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
    if INVALID_SETTINGS in statuses:
        return INVALID_SETTINGS
    return FAILED if any(statuses) else 0


class _Child:
    """Runs one child process, and starts another process in its place when it dies or hangs.

    `files` yields a new file for the metrics of each process. A process hangs if it sends no
    heartbeat for `silent_seconds`.
    """

    def __init__(
        self,
        command: list[str],
        environ: Mapping[str, str],
        files: Iterator[Path],
        silent_seconds: float,
    ) -> None:
        self._command = command
        self._environ = environ
        self._files = files
        self._silent_seconds = silent_seconds
        self._stopping = asyncio.Event()
        self._stopped_by: signal.Signals | None = None
        self._process: asyncio.subprocess.Process | None = None

    def stop(self, which: signal.Signals) -> None:
        self._stopped_by = which
        self._stopping.set()
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(which)

    async def keep(self) -> int:
        """Restarts the child process until it is stopped or cannot start.

        Returns the exit status of the last process.
        """
        deaths = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            status = await self._run()
            if status in {CANNOT_START, INVALID_SETTINGS}:
                return status
            if self._stopping.is_set():
                # SIGTERM kills a child that has not installed its signal handler yet. That is an
                # orderly stop too.
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
        file = next(self._files)
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                theirs.setblocking(False)  # a parent that hangs must not block its children
                self._process = process = await asyncio.create_subprocess_exec(
                    *self._command,
                    str(file),
                    stdin=theirs.fileno(),
                    env=self._environ,
                    # Only the parent receives Ctrl-C, and it forwards the signal.
                    start_new_session=True,
                )
            if self._stopped_by is not None:  # a stop was requested during the start
                process.send_signal(self._stopped_by)
            try:
                async with listening(ours, self._kill_hung, self._silent_seconds):
                    return await process.wait()
            finally:
                merge_ended(file)

    def _kill_hung(self) -> None:
        process = self._process
        # A process that stops has another time limit.
        if process is None or process.returncode is not None or self._stopping.is_set():
            return
        log.error(
            "child process hung: killing it",
            pid=process.pid,
            seconds=self._silent_seconds,
        )
        process.kill()
