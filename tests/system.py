"""Real server and worker processes, for the tests of whole journeys."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

import aiohttp

from dev.pdeathsig import with_pdeathsig

ROOT = Path(__file__).parent.parent
START_SECONDS = 60.0  # seconds of CPU, on cores that may be shared by many


async def wait_until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Polls a condition, which may be a coroutine function, and returns its first true value."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, f"not true within {seconds} s: {found!r}"
        await asyncio.sleep(0.01)  # the interval of the polling


class Process:
    """One process of ours, its output in a file."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], output: Path) -> None:
        self.name = name
        self.popen = popen
        self._output = output

    @property
    def said(self) -> str:
        """What the process has printed so far."""
        return self._output.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self.popen.send_signal(number)

    async def wait(self, seconds: float = 10.0) -> int:
        """The exit status, once it has ended."""
        await wait_until(lambda: self.popen.poll() is not None, seconds)
        return self.popen.returncode

    async def kill(self) -> None:
        """SIGKILL, and gone."""
        self.popen.kill()
        await self.wait()


_P = TypeVar("_P", bound="Process")


class Server(Process):
    """A server process and where it listens."""

    url = ""

    @property
    def ws_url(self) -> str:
        """The address of its WebSocket."""
        return self.url.replace("http", "ws", 1) + "/v1/responses"

    async def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/metrics") as response:
            value = re.search(rf"^{name} (\S+)$", await response.text(), re.MULTILINE)
        assert value is not None, name
        return float(value[1])


def start_process(
    kind: type[_P], name: str, argv: list[str], output: Path, environ: dict[str, str], cwd: Path
) -> _P:
    """Starts a process that does not outlive us; its output is appended to a file.

    Of our own environment it has nothing that names a setting of ours, a model or a Redis.
    """
    wrapped, set_pdeathsig = with_pdeathsig(argv, signal.SIGKILL)
    with output.open("ab") as sink:
        popen = subprocess.Popen(
            wrapped,
            cwd=cwd,
            env=clean_environ() | environ,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            preexec_fn=set_pdeathsig,  # noqa: PLW1509 - ties the child's life to ours
        )
    return kind(name, popen, output)


def clean_environ() -> dict[str, str]:
    """The environment without any setting of ours, a model or a Redis."""
    ours = ("HOLDLINE_", "OPENAI_", "REDIS_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


async def run_command(
    *command: str, cwd: Path = ROOT, environ: dict[str, str] | None = None
) -> str:
    """The output of a command, errors included; it must succeed."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert 0 == process.returncode, output.decode()
    return output.decode()


def run_module(module: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs a program of ours to its end, whatever its exit status."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=clean_environ() | environ,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


class System:
    """Starts processes against one Redis, and ends them all.

    They run from the checkout. Another installation has a `python` of its own, the `package` in
    which the modules lie ("name."), and a working directory other than the checkout.
    """

    def __init__(
        self,
        redis_url: str,
        folder: Path,
        *,
        python: str = sys.executable,
        package: str = "",
        cwd: Path = ROOT,
    ) -> None:
        self.redis_url = redis_url
        self._folder = folder
        self._python, self._package = python, package
        self._cwd = cwd
        self._processes: list[Process] = []
        self.environ = {
            "REDIS_URL": redis_url,
            "OPENAI_API_KEY": "test",
            "HOLDLINE_MODEL": "simulation",
            "HOLDLINE_LEASE_SECONDS": "1",
        }

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self._processes:
            process.popen.kill()
        for process in self._processes:
            await process.wait()

    async def server(self, **environ: str) -> Server:
        """A server that is ready."""
        port = environ.get("HOLDLINE_PORT") or str(free_port())
        server = self._start(Server, "server", {**environ, "HOLDLINE_PORT": port})
        server.url = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession() as http:

            async def ready() -> bool:
                assert server.popen.poll() is None, server.said
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(f"{server.url}/readyz") as response:
                        return response.status == 200
                return False

            await wait_until(ready, START_SECONDS)
        return server

    async def worker(self, model_url: str, **environ: str) -> Process:
        """A worker that is ready; its model is at `model_url`."""
        worker = self._start(Process, "worker", {"OPENAI_BASE_URL": model_url, **environ})
        await wait_until(lambda: "worker ready" in worker.said, START_SECONDS)
        return worker

    async def run(self, module: str, *arguments: str) -> str:
        """What a command of ours prints; it must succeed."""
        environ = clean_environ() | self.environ
        return await run_command(*self._command(module), *arguments, cwd=self._cwd, environ=environ)

    def _command(self, module: str) -> list[str]:
        return [self._python, "-m", self._package + module]

    def _start(self, kind: type[_P], name: str, environ: dict[str, str]) -> _P:
        output = self._folder / f"{len(self._processes)}-{name}.log"
        command = self._command(name)
        process = start_process(kind, name, command, output, self.environ | environ, self._cwd)
        self._processes.append(process)
        return process


def free_port() -> int:
    """A port of loopback that nobody has right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
