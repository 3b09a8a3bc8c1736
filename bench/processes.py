"""Starts the child processes of a benchmark, and reads their CPU and memory use from /proc."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from command.up.pdeathsig import with_pdeathsig

ROOT = Path(__file__).parent.parent
TICKS = os.sysconf("SC_CLK_TCK")
START_SECONDS = 30.0


class BenchError(Exception):
    """A benchmark cannot continue; the message names the cause."""


class Process:
    """A child process that is killed if the harness dies. `output` is the path of its output."""

    def __init__(
        self,
        name: str,
        argv: list[str],
        folder: Path,
        environ: Mapping[str, str],
        *,
        talks: bool = False,
    ) -> None:
        """Starts the process. With `talks`, the process reads commands from stdin; see `ask`."""
        self.name = name
        self.output = folder / f"{name}.log"
        wrapped, set_pdeathsig = with_pdeathsig(argv, signal.SIGKILL)
        clean = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("HOLDLINE_", "OPENAI_", "REDIS_"))
        }
        with self.output.open("ab") as sink:
            self.popen = subprocess.Popen(
                wrapped,
                cwd=ROOT,
                env=clean | dict(environ),
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else sink,
                stderr=sink,
                preexec_fn=set_pdeathsig,  # noqa: PLW1509 - kills the child if the harness dies
            )

    @property
    def said(self) -> str:
        """The output of the process so far, including standard error."""
        return self.output.read_text(errors="replace")

    def cpu(self) -> float:
        """Returns the user and system CPU seconds of all threads, in steps of `1 / TICKS`.

        The times of child processes are included, which `--processes` starts.
        """
        return sum(map(_cpu, self._family()))

    def resident(self) -> int:
        """Returns the anonymous resident memory in bytes, without pages of mapped files.

        The memory of child processes is included.
        """
        return sum(map(_resident, self._family()))

    def wake_ups(self) -> int:
        """Returns how often the main threads of the process and its children waited for work."""
        return sum(map(_waits, self._family()))

    def _family(self) -> list[int]:
        """Returns the ids of the process and of its child processes."""
        pid = self.popen.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
        return [pid, *map(int, children.split())]

    async def until_said(self, words: str) -> None:
        """Waits until the output contains `words`. Raises: BenchError like `until`."""
        await self.until(lambda: words in self.said)

    async def until(self, happened: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        """Waits until `happened()` is true.

        Raises: BenchError if the process exits or the time runs out.
        """
        deadline = time.monotonic() + seconds
        while not happened():
            if self.popen.poll() is not None or time.monotonic() > deadline:
                raise BenchError(
                    f"{self.name} exited or timed out; its output:\n{self.said[-2000:]}"
                )
            await asyncio.sleep(0.02)

    async def ask(self, line: str, seconds: float = 120.0) -> str:
        """Sends one line to the process and returns the line with which it replies.

        Raises: BenchError, TimeoutError.
        """
        return await asyncio.wait_for(asyncio.to_thread(self._ask, line), seconds)

    def _ask(self, line: str) -> str:
        if self.popen.stdin is None or self.popen.stdout is None:
            raise BenchError(f"{self.name} was started without pipes")
        with contextlib.suppress(BrokenPipeError):
            self.popen.stdin.write(line.encode() + b"\n")
            self.popen.stdin.flush()
        answer = self.popen.stdout.readline().decode().strip()
        if not answer:
            raise BenchError(
                f"{self.name} did not reply to {line!r}; its output:\n{self.said[-2000:]}"
            )
        return answer

    async def end(self) -> None:
        """Kills the process with SIGKILL, and waits for its exit."""
        self.popen.kill()
        await asyncio.to_thread(self.popen.wait)
        for stream in (self.popen.stdin, self.popen.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def _cpu(pid: int) -> float:
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def _waits(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("voluntary_ctxt"))
    return int(line.split()[1])


class Cpu:
    """Measures the CPU seconds of processes since this object was created.

    The results are keyed by the process's name; `self` stands for the harness.
    """

    def __init__(self, *processes: Process) -> None:
        self._processes = processes
        self._began = {process.name: process.cpu() for process in processes}
        self._own = time.process_time()

    def taken(self) -> dict[str, float]:
        """Returns each process's CPU seconds: at least one tick, to avoid division by zero."""
        taken = {
            process.name: max(process.cpu() - self._began[process.name], 1 / TICKS)
            for process in self._processes
        }
        return taken | {"self": time.process_time() - self._own}
