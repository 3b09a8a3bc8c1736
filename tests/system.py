"""Starts real server and worker processes for end-to-end tests."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import aiohttp
import pytest

from command.up.pdeathsig import with_pdeathsig
from jobs import errors

ROOT = Path(__file__).parent.parent
# The folder of the packages under test and the prefix of their modules. With an installed wheel,
# both name `holdline_server`; see `make test-wheel`.
CODE = Path(errors.__file__).parent.parent
PREFIX = errors.__name__.partition("jobs")[0]
in_module_loop = pytest.mark.asyncio(loop_scope="module")
EXTENSIONS = ("holdline.v1",)  # the subprotocol that switches on Holdline's own messages
# Ports for servers. The ports of a cluster's bus are higher by 10,000.
FIRST_PORT, PORTS = 10_000, 10_000
START_SECONDS = 60.0  # a start takes seconds of processor time on cores shared with other tests


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
        await asyncio.sleep(0.01)  # the polling interval


class Process:
    """A process that the tests started, with its output in a file."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], output: Path) -> None:
        self.name = name
        self.popen = popen
        self._output = output

    @property
    def output(self) -> str:
        """The output of the process so far."""
        return self._output.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self.popen.send_signal(number)

    async def wait(self, seconds: float = 10.0) -> int:
        """Waits until the process has ended and returns its exit status."""
        await wait_until(lambda: self.popen.poll() is not None, seconds)
        return self.popen.returncode

    async def kill(self) -> None:
        """Sends SIGKILL and waits until the process has ended."""
        self.popen.kill()
        await self.wait()


_P = TypeVar("_P", bound="Process")


class Server(Process):
    """A server process and its address."""

    url = ""

    @property
    def ws_url(self) -> str:
        """The URL of the server's WebSocket."""
        return self.url.replace("http", "ws", 1) + "/v1/responses"

    async def metric(self, name: str) -> float:
        """Returns the value of a metric, whose labels are a part of the name if it has any."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/metrics") as response:
            value = re.search(rf"^{re.escape(name)} (\S+)$", await response.text(), re.MULTILINE)
        assert value is not None, name
        return float(value[1])


def start_process(
    kind: type[_P], name: str, argv: list[str], output: Path, environ: dict[str, str], cwd: Path
) -> _P:
    """Starts a process that ends with this one and appends its output to a file.

    The new process does not inherit variables that configure Holdline, a model, Redis or traces.
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
            preexec_fn=set_pdeathsig,  # noqa: PLW1509 - ends the child with this process
        )
    return kind(name, popen, output)


def clean_environ() -> dict[str, str]:
    """Returns the environment without the settings of Holdline, a model, Redis or traces."""
    ours = ("HOLDLINE_", "OPENAI_", "OTEL_", "REDIS_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


async def run_command(
    *command: str, cwd: Path = ROOT, environ: dict[str, str] | None = None
) -> str:
    """Runs a command that must succeed and returns its output, including stderr."""
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


def module_command(module: str) -> list[str]:
    """Returns the command of one of Holdline's modules, whose name may lack the prefix."""
    return [sys.executable, "-m", module if module.startswith(PREFIX) else PREFIX + module]


def run_module(module: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs one of Holdline's modules to its end. Any exit status is accepted."""
    return subprocess.run(
        [*module_command(module), *arguments],
        cwd=ROOT,
        env=clean_environ() | environ,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


class System:
    """Starts processes on one Redis and ends all of them.

    By default, the processes run the packages that the tests import. For another installation,
    `program` is its command `holdline`, and `cwd` a directory outside the checkout.
    """

    def __init__(
        self,
        redis_url: str,
        folder: Path,
        *,
        program: Sequence[str] | None = None,
        cwd: Path = ROOT,
    ) -> None:
        self.redis_url = redis_url
        self._folder = folder
        self._program = program
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
        """Starts a server and waits until it is ready."""
        port = environ.get("HOLDLINE_PORT") or str(free_port())
        server = self._start(Server, "server", {**environ, "HOLDLINE_PORT": port})
        server.url = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession() as http:

            async def ready() -> bool:
                assert server.popen.poll() is None, server.output
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(f"{server.url}/readyz") as response:
                        return response.status == 200
                return False

            await wait_until(ready, START_SECONDS)
        return server

    async def worker(self, model_url: str, **environ: str) -> Process:
        """Starts a worker with the model at `model_url` and waits until it is ready."""
        worker = self._start(Process, "worker", {"OPENAI_BASE_URL": model_url, **environ})
        await wait_until(lambda: "worker ready" in worker.output, START_SECONDS)
        return worker

    async def run(self, *arguments: str) -> str:
        """Runs one of Holdline's commands, which must succeed, and returns its output."""
        environ = clean_environ() | self.environ
        return await run_command(*self.command(*arguments), cwd=self._cwd, environ=environ)

    async def add_signer(self, kid: str = "kid") -> str:
        """Adds a signer of tokens to the file of the settings, and returns its private key."""
        return (await self.run("signers", "add", kid)).splitlines()[0]

    def command(self, *arguments: str) -> list[str]:
        """Returns the command line of one of Holdline's commands."""
        program = module_command("command") if self._program is None else self._program
        return [*program, *arguments]

    def start(self, name: str, **environ: str) -> Process:
        """Starts one of Holdline's commands, and does not wait for it."""
        return self._start(Process, name, environ)

    def _start(self, kind: type[_P], name: str, environ: dict[str, str]) -> _P:
        output = self._folder / f"{len(self._processes)}-{name}.log"
        command = self.command(name)
        process = start_process(kind, name, command, output, self.environ | environ, self._cwd)
        self._processes.append(process)
        return process


def free_port() -> int:
    """Returns a free port of the loopback interface.

    The system assigns higher ports to outgoing connections, so one of those could be taken before
    a server listens on it.
    """
    while True:
        port = FIRST_PORT + secrets.randbelow(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
