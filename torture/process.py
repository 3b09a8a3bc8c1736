"""One process of a target: it starts, becomes ready, and can be stopped, killed and frozen."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import aiohttp

from torture.errors import StartError
from torture.target import Ready

_PR_SET_PDEATHSIG: Final = 1
_POLL_SECONDS: Final = 0.02
_PROBE_SECONDS: Final = 2.0
_KILL_SECONDS: Final = 10.0
# Requests to the model and to other processes must not go through the proxy of the environment.
_NO_PROXY: Final = dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")
# The length of the output that an error quotes.
_QUOTED_BYTES: Final = 2000


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
        # The position in the file at which the output of the current start begins.
        self._begin = 0

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

    def start(self) -> None:
        """Starts the process.

        Raises:
            StartError: the command cannot be run.
        """
        self._begin = self._output.stat().st_size if self._output.exists() else 0
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
        while not await self.is_ready(ready):
            if not self.running:
                raise StartError(
                    f"{self.name} ended with status {self.status}:\n{self._quoted_output()}"
                )
            if time.monotonic() > deadline:
                raise StartError(
                    f"{self.name} is not ready after {seconds:g} s:\n{self._quoted_output()}"
                )
            await asyncio.sleep(_POLL_SECONDS)

    async def is_ready(self, ready: Ready | None) -> bool:
        """Returns whether the process runs and is ready."""
        if not self.running:
            return False
        match ready:
            case None:
                return True
            case Ready("output"):
                return re.search(ready.value, self.output()) is not None
            case Ready("tcp"):
                return await _accepts(ready.value)
            case _:
                return await _answers(ready.value)

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
        """Waits until the process has ended. Returns whether it did in time."""
        deadline = time.monotonic() + seconds
        while self.running:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True

    def _quoted_output(self) -> str:
        return self.output()[-_QUOTED_BYTES:].strip() or "(no output)"


async def _accepts(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            _, writer = await asyncio.open_connection(host or "127.0.0.1", int(port))
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def _answers(url: str) -> bool:
    timeout = aiohttp.ClientTimeout(total=_PROBE_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as http, http.get(url) as reply:
            return reply.status < 400
    except (aiohttp.ClientError, TimeoutError):
        return False
