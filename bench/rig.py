"""Starts the processes of a benchmark: Redis, servers, workers, the model and the peers."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Self

from command.up.redis import installed
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe

from .processes import ROOT, BenchError, Process

PEERS = Path(__file__).parent / "peers"
# The peers have a separate environment, so that their packages cannot affect Holdline's.
PEERS_PYTHON = Path(os.environ.get("BENCH_PYTHON") or ROOT / ".venv-bench/bin/python")
NODE_MODULES = PEERS / "node_modules"
CALLS: Final = re.compile(r"cmdstat_([^|:]+)[^:]*:calls=(\d+)")


class Rig:
    """Starts processes, and ends all of them on exit. Use it as an async context manager."""

    def __init__(self) -> None:
        self.left_out: dict[str, str] = {}
        self.redis_url = ""
        self._processes: list[Process] = []
        self._names: dict[str, int] = {}
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            folder = tempfile.TemporaryDirectory(prefix="holdline-bench-")
            self.folder = Path(stack.enter_context(folder))
            stack.push_async_callback(self._end_processes)
            await self._start_redis()
            # `control` is for set-up and inspection only; measured processes use other connections.
            self.control = Pipe(Redis(self.redis_url), deadline=30)
            await stack.enter_async_context(self.control)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start_redis(self) -> None:
        port = free_port()
        self.redis_url = f"redis://127.0.0.1:{port}/0"
        options = {
            "--port": str(port),
            "--bind": "127.0.0.1",
            "--dir": str(self.folder),
            "--save": "",
            "--appendonly": "no",
            "--maxmemory-policy": "noeviction",
            "--maxclients": "1000",
        }
        binary = str(installed(os.environ.get("PATH")).path)
        self.redis = self.start("redis", [binary, *(w for pair in options.items() for w in pair)])
        await self.redis.until_said("Ready to accept connections")

    async def _end_processes(self) -> None:
        for process in reversed(self._processes):
            await process.end()

    def start(
        self,
        name: str,
        argv: list[str],
        environ: Mapping[str, str] | None = None,
        *,
        talks: bool = False,
    ) -> Process:
        """Starts a process. A second process with the same name gets a number as its suffix."""
        self._names[name] = number = self._names.get(name, 0) + 1
        full = name if number == 1 else f"{name}-{number}"
        shared = {"REDIS_URL": self.redis_url, "OPENAI_API_KEY": "bench"}
        process = Process(full, argv, self.folder, {**shared, **(environ or {})}, talks=talks)
        self._processes.append(process)
        return process

    async def server(self, **environ: str) -> tuple[Process, int]:
        """Starts a Holdline server, waits until it is ready, and returns process and port."""
        port = free_port()
        settings = {
            "HOLDLINE_PORT": str(port),
            "HOLDLINE_MODEL": "bench",
            "HOLDLINE_MAX_WAITING": "1000000",
        }
        argv = [sys.executable, "-m", "server"]
        process = self.start("server", argv, settings | environ)
        await process.until_said("server ready")
        return process, port

    async def worker(self, model_url: str, **environ: str) -> Process:
        """Starts a Holdline worker, and waits until it is ready."""
        settings = {
            "OPENAI_BASE_URL": model_url,
            "HOLDLINE_MODEL": "bench",
            "HOLDLINE_MAX_WAITING": "1000000",
        }
        process = self.start("worker", [sys.executable, "-m", "worker"], settings | environ)
        await process.until_said("worker ready")
        return process

    async def model(self) -> tuple[Process, str]:
        """Starts the simulated model, and returns the process and its base URL."""
        port = free_port()
        process = self.start("model", [sys.executable, "-m", "bench.model", str(port)])
        await process.until_said("listening")
        return process, f"http://127.0.0.1:{port}/v1"

    def ours(self, module: str, *arguments: str) -> Process:
        """Starts a module of `bench` that accepts commands, with the Python of the harness."""
        argv = [sys.executable, "-m", f"bench.{module}", *arguments]
        return self.start(module.rpartition(".")[2], argv, talks=True)

    async def python(
        self, name: str, *arguments: str, package: str, **environ: str
    ) -> Process | None:
        """Starts a peer in Python that accepts commands, and waits until it is ready.

        If the peer does not start, for example because `package` is not installed, adds the package
        to `left_out` and returns None.
        """
        if not _there(PEERS_PYTHON):
            self.left_out[package] = "make bench installs it"
            return None
        argv = [str(PEERS_PYTHON), str(PEERS / f"{name}.py"), *arguments]
        return await self._peer(name, argv, package, environ)

    async def node(
        self, name: str, *arguments: str, package: str, **environ: str
    ) -> Process | None:
        """Starts a peer in Node.js that accepts commands, and waits until it is ready.

        If the peer does not start, for example because `package` is not installed, adds the package
        to `left_out` and returns None.
        """
        node = shutil.which("node")
        if node is None or not _there(NODE_MODULES / package):
            self.left_out[package] = "Node.js is missing" if node is None else "npm ci has not run"
            return None
        argv = [node, str(PEERS / f"{name}.mjs"), *arguments]
        return await self._peer(name, argv, package, environ)

    async def gateway(
        self,
        program: str,
        arguments: Callable[[int], list[str]],
        *,
        package: str,
        seconds: float,
        **environ: str,
    ) -> tuple[Process | None, int]:
        """Starts a gateway of the peers' environment, and waits until its port is open.

        `arguments` returns the arguments of the program for a port. If the gateway does not start,
        adds the package to `left_out` and returns None.
        """
        binary, port = PEERS_PYTHON.parent / program, free_port()
        if not _there(binary):
            self.left_out[package] = "make bench installs it"
            return None, port
        process = self.start(program, [str(binary), *arguments(port)], environ)
        try:
            await process.until(lambda: _is_open(port), seconds)
        except BenchError:
            self.left_out[package] = f"it did not start: {process.said[-300:]}"
            return None, port
        return process, port

    async def _peer(
        self, name: str, argv: list[str], package: str, environ: Mapping[str, str]
    ) -> Process | None:
        process = self.start(name, argv, environ, talks=True)
        try:
            await process.ask("ready", 30.0)
        except (BenchError, TimeoutError):
            self.left_out[package] = f"it did not start: {process.said[-300:]}"
            return None
        return process

    async def forget_commands(self) -> None:
        """Resets the command statistics of Redis."""
        await self.control.call("CONFIG", "RESETSTAT")

    async def commands(self) -> int:
        """Returns the number of Redis commands since the reset, including commands in scripts."""
        calls = await self.calls()
        return sum(count for name, count in calls.items() if name not in ("info", "config"))

    async def scripts(self) -> int:
        """Returns the number of script calls since the statistics were reset."""
        return (await self.calls())["evalsha"]

    async def calls(self) -> dict[str, int]:
        """Returns the number of calls of each Redis command, including those in scripts."""
        said = (await self.control.call("INFO", "commandstats")).decode()
        return {name: int(count) for name, count in CALLS.findall(said)}


def free_port() -> int:
    """Returns a free port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _there(path: Path) -> bool:
    return path.exists()
