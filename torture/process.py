"""One process of a target: it starts, becomes ready, and can be stopped, killed and frozen."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from torture.errors import StartError
from torture.readiness import unready
from torture.target import Ready

_PR_SET_PDEATHSIG: Final = 1
_POLL_SECONDS: Final = 0.02
_KILL_SECONDS: Final = 10.0
# Requests to the model and to other processes must not go through the proxy of the environment.
_NO_PROXY: Final = dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")
# Limits of the output that a report shows.
MAX_LINES: Final = 40
MAX_LINE_CHARACTERS: Final = 400
_MAX_READ_BYTES: Final = 2**16


def _end_with_parent() -> Callable[[], None] | None:
    """Returns a function that makes the calling child process end when its parent does."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)

    def set_signal() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return set_signal


class Process:
    """An instance of a process, with its output in a file.

    The process leads a group of its own, so that signals reach its children too.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        cwd: Path,
        environment: Mapping[str, str],
        output: Path,
    ) -> None:
        self.name = name
        self._argv = list(argv)
        self._cwd = cwd
        self._environment = environment
        self._output = output
        self._popen: subprocess.Popen[bytes] | None = None
        # The positions in the file at which the output of the current start and the output of the
        # current case begin.
        self._begin = 0
        self._mark = 0

    @property
    def running(self) -> bool:
        """True if the process has been started and has not ended."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def group(self) -> int | None:
        """The process group, or None before the first start."""
        return None if self._popen is None else self._popen.pid

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal, or None."""
        return None if self._popen is None else self._popen.poll()

    def output(self) -> str:
        """Returns the output since the last start."""
        with contextlib.suppress(FileNotFoundError), self._output.open("rb") as file:
            file.seek(self._begin)
            return file.read().decode(errors="replace")
        return ""

    def mark(self) -> None:
        """Marks the beginning of a case: `last_lines` returns only later output."""
        self._mark = self._size()

    def last_lines(self) -> list[str]:
        """Returns the last lines of the output since `mark`, which may include several starts."""
        return self._lines_since(self._mark)

    def start(self) -> None:
        """Starts the process.

        Raises:
            StartError: the command cannot be run.
        """
        self._begin = self._size()
        with self._output.open("ab") as sink:
            try:
                self._popen = subprocess.Popen(  # noqa: S603 - the target file names the command
                    self._argv,
                    cwd=self._cwd,
                    env={**os.environ, **_NO_PROXY, **self._environment},
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=sink,
                    start_new_session=True,
                    preexec_fn=_end_with_parent(),  # noqa: PLW1509 - no threads run here yet
                )
            except OSError as error:
                raise StartError(f"{self.name} cannot be started: {error}") from None

    async def wait_ready(self, ready: Ready | None, seconds: float) -> None:
        """Waits until the process is ready.

        Raises:
            StartError: it has ended, or is not ready in time.
        """
        deadline = time.monotonic() + seconds
        while missing := await self.unready(ready):
            if not self.running:
                raise StartError(
                    f"{self.name} ended with status {self.status}; {self._quoted_output()}"
                )
            if time.monotonic() > deadline:
                raise StartError(
                    f"{self.name} is not ready after {seconds:g} s: {missing}; "
                    f"{self._quoted_output()}"
                )
            await asyncio.sleep(_POLL_SECONDS)

    async def unready(self, ready: Ready | None) -> str:
        """Returns the reason why the process is not ready, or "" if it runs and is ready."""
        if not self.running:
            return "it does not run"
        return await unready(ready, self.output())

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the process and its children."""
        if self._popen is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, number)

    async def kill(self) -> None:
        """Kills the process and its children, and waits until the process has ended."""
        self.send(signal.SIGKILL)
        await self.wait(_KILL_SECONDS)

    async def stop(self, number: signal.Signals, seconds: float) -> bool:
        """Stops the process. Returns False if it had to be killed because it took too long."""
        if self._popen is None:
            return True
        self._popen.send_signal(number)
        in_time = await self.wait(seconds)
        await self.kill()
        return in_time

    async def wait(self, seconds: float) -> bool:
        """Waits until the process has ended. Returns True if it did in time."""
        deadline = time.monotonic() + seconds
        while self.running:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True

    def _quoted_output(self) -> str:
        lines = self._lines_since(self._begin)
        return "\n".join(["its last output:", *lines] if lines else ["it has printed nothing"])

    def _size(self) -> int:
        return self._output.stat().st_size if self._output.exists() else 0

    def _lines_since(self, begin: int) -> list[str]:
        first = max(begin, self._size() - _MAX_READ_BYTES)
        with contextlib.suppress(FileNotFoundError), self._output.open("rb") as file:
            file.seek(first)
            return last_lines(file.read(_MAX_READ_BYTES).decode(errors="replace"))
        return []


def last_lines(text: str) -> list[str]:
    """Returns the last lines that are not empty, shortened."""
    lines = [line.rstrip() for line in text.splitlines()]
    shown = [line for line in lines if line][-MAX_LINES:]
    return [
        line if len(line) <= MAX_LINE_CHARACTERS else f"{line[: MAX_LINE_CHARACTERS - 3]}..."
        for line in shown
    ]
