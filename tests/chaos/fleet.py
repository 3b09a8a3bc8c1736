"""The processes of a run: one Redis, some servers, some workers; each comes back from death."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import resource
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_FSIZE
from typing import Self

import aiohttp

from dev.redis import installed
from tests.chaos.clocks import clock_environ
from tests.system import ROOT, Process, start_process, wait_until

START_SECONDS = 60.0  # a machine may be busy with other things
HANG_SECONDS = 8.0
# A server that was started while Redis was away has given up by then.
AWAY_SECONDS = 10.0


def free_port(rng: random.Random) -> int:
    """A port of loopback below those that the kernel gives to outgoing connections."""
    while True:
        port = rng.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


class Storage:
    """A Redis on a TCP port of its own. What it acknowledged is in its file, also after a kill."""

    url = ""  # if our processes do not use the proxy in front of the port

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.folder = folder
        self.process: Process | None = None

    async def start(self) -> None:
        """Returns when it answers."""
        binary = installed(os.environ.get("PATH")).path
        # `always`: with `everysec` a write may be acknowledged before the file has it.
        options = {
            "--port": str(self.port),
            "--bind": "127.0.0.1",
            "--dir": str(self.folder),
            "--save": "",
            "--appendonly": "yes",
            "--appendfsync": "always",
            "--maxmemory-policy": "noeviction",
            "--enable-debug-command": "local",
        }
        # A write beyond RLIMIT_FSIZE fails like one to a full disk only if its signal is ignored.
        argv = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "redis", str(binary)]
        argv += [part for pair in options.items() for part in pair]
        environ = clock_environ(self.folder.parent, "redis")
        log = self.folder / "redis.log"
        self.process = start_process(Process, "redis", argv, log, environ, ROOT)
        await wait_until(self.answers, START_SECONDS)

    async def answers(self) -> bool:
        """Whether PING gets its PONG."""
        with contextlib.suppress(OSError):
            async with asyncio.timeout(1):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    writer.write(b"PING\r\n")
                    return (await reader.readline()).startswith(b"+PONG")
                finally:
                    writer.close()
        return False

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        if self.process is not None and self.process.popen.poll() is None:
            self.process.signal(number)

    async def kill(self) -> None:
        """SIGKILL, and gone."""
        if self.process is not None:
            await self.process.kill()

    def limit_file_size(self, limit: int) -> None:
        """Lets no file grow beyond this; `RLIM_INFINITY` ends that."""
        assert self.process is not None
        resource.prlimit(self.process.popen.pid, RLIMIT_FSIZE, (limit, RLIM_INFINITY))

    @property
    def files(self) -> list[Path]:
        """The append-only file: its base, what was appended, and the manifest that names them."""
        return sorted((self.folder / "appendonlydir").glob("*"))


@contextlib.asynccontextmanager
async def running(folder: Path, port: int) -> AsyncIterator[Storage]:
    """A Redis, started."""
    storage = Storage(folder, port)
    await storage.start()
    try:
        yield storage
    finally:
        await storage.kill()


class Member:
    """A server or a worker and its successors, one at a time.

    Whoever kills it says for how long it stays away. A death that nobody caused is an oddity.
    """

    def __init__(self, name: str, argv: list[str], folder: Path, environ: dict[str, str]) -> None:
        self.name = name
        self.starts = 0
        self.paused = False
        self.anomalies: list[str] = []
        self._argv = argv
        self._output = folder / f"{name}.log"
        self._environ = environ
        self._process: Process | None = None
        self._asked: signal.Signals | None = None
        self._asked_at = 0.0
        self._back_at = 0.0
        self._read_from = 0
        self.fds_at_start = 0

    @property
    def pid(self) -> int:
        """The number of the process that lives now."""
        assert self._process is not None
        return self._process.popen.pid

    @property
    def alive(self) -> bool:
        """Whether it runs and nobody has asked it to go."""
        process = self._process
        return process is not None and process.popen.poll() is None and self._asked is None

    @property
    def said(self) -> str:
        """What the present process has said."""
        return self._output.read_bytes()[self._read_from :].decode(errors="replace")

    def start(self) -> None:
        """Starts it, or its successor."""
        self._read_from = self._output.stat().st_size if self._output.exists() else 0
        self._process = start_process(
            Process, self.name, self._argv, self._output, self._environ, ROOT
        )
        self._asked, self.paused = None, False
        self.starts += 1

    def kill(self, away: float) -> None:
        """SIGKILL; back after `away` seconds."""
        self._ask(signal.SIGKILL, away)

    def term(self, away: float) -> None:
        """SIGTERM; back `away` seconds after it has gone."""
        self._ask(signal.SIGTERM, away)

    def pause(self) -> None:
        """SIGSTOP."""
        if self.alive and self._process is not None:
            self.paused = True
            self._process.signal(signal.SIGSTOP)

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal that ends nothing."""
        if self._process is not None:
            self._process.signal(number)

    def go_on(self) -> None:
        """SIGCONT."""
        if self.paused and self._process is not None and self._process.popen.poll() is None:
            self._process.signal(signal.SIGCONT)
        self.paused = False

    def _ask(self, number: signal.Signals, away: float) -> None:
        if self.alive and self._process is not None:
            self._asked, self._asked_at, self._back_at = number, time.monotonic(), away
            self._process.signal(number)

    def keep(self, *, redis_was_away: bool) -> None:
        """Looks after it; call this often."""
        if self._process is None:
            return
        status, now = self._process.popen.poll(), time.monotonic()
        if status is None:
            if self._asked is not None and now - self._asked_at > HANG_SECONDS:
                self._tell_of_hang()
                self._asked_at, self._asked = now, signal.SIGKILL
            return
        if self._asked is None:
            # A server refuses to start without Redis, and whoever keeps it starts it again.
            if not (redis_was_away and self.kind == "server" and status == 1):
                self.anomalies.append(f"{self.name} ended by itself, status {status}:\n{self.tail}")
            self._asked, self._back_at = signal.SIGKILL, 0.2
        elif self._asked is signal.SIGTERM and status not in (0, -signal.SIGKILL):
            # Asked before it had its handlers, Python dies of the signal.
            if status != -signal.SIGTERM or self.ready:
                self.anomalies.append(f"{self.name} answered SIGTERM with {status}:\n{self.tail}")
            self._asked = signal.SIGKILL
        if self._back_at < 1e6:  # seconds to stay away, until it is seen to be gone
            self._back_at = now + self._back_at + 1e6
        elif now + 1e6 >= self._back_at:
            self.start()

    def _tell_of_hang(self) -> None:
        """Has it write its stack, and ends it; a stopped process is told as such."""
        assert self._process is not None
        state = [
            line.replace("\t", " ")
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines()
            if line.startswith(("State", "SigPnd", "ShdPnd", "SigBlk", "SigCgt"))
        ]
        asked = (self._asked or signal.SIGTERM).name
        self._process.signal(signal.SIGABRT)
        self._process.signal(signal.SIGCONT)
        time.sleep(0.5)  # the time to print its stacks
        self._process.signal(signal.SIGKILL)
        what = f"did not end {HANG_SECONDS:.0f} s after {asked}"
        self.anomalies.append("\n".join([f"{self.name} {what}", ", ".join(state), self.tail]))

    @property
    def kind(self) -> str:
        """`server` or `worker`."""
        return self.name.partition("-")[0]

    @property
    def ready(self) -> bool:
        """Whether it has said that it is ready."""
        return f"{self.kind} ready" in self.said

    @property
    def tail(self) -> str:
        """Its last words."""
        return "\n".join(self.said.splitlines()[-16:])

    def errors(self) -> list[str]:
        """What it and those before it have logged as errors, each once, and tracebacks."""
        found: Counter[str] = Counter()
        if not self._output.exists():
            return []
        traceback: list[str] = []
        for line in self._output.read_text(errors="replace").splitlines():
            if line.startswith("Traceback") or (traceback and line.startswith(" ")):
                traceback.append(line)
                continue
            if traceback:
                found["\n".join([*traceback[-6:], line])] += 1
                traceback = []
            with contextlib.suppress(ValueError):
                said = json.loads(line)
                if isinstance(said, dict) and said.get("level") in ("error", "critical"):
                    last = str(said.pop("exception", "")).splitlines()[-6:]
                    said.pop("timestamp", None)
                    found["\n".join([json.dumps(said), *last])] += 1
        return [f"{self.name} logged {number} x {what}" for what, number in found.items()]

    def end(self) -> None:
        """Kills it for good."""
        if self._process is not None:
            self._process.popen.kill()
            self._process.popen.wait()
            self._process = None


class Fleet:
    """All servers and workers; use it as an async context manager."""

    def __init__(
        self, folder: Path, environ: dict[str, str], wrapper: tuple[str, ...] = ()
    ) -> None:
        """`wrapper`: a module that starts each process in its place, and its first arguments."""
        self._folder = folder
        self._environ = environ
        self._wrapper = wrapper
        self.servers: list[Member] = []
        self.workers: list[Member] = []
        self.ports: list[int] = []
        self.redis_away_at = -100.0
        self._keeper: asyncio.Task[None] | None = None

    @property
    def members(self) -> list[Member]:
        """Everybody."""
        return [*self.servers, *self.workers]

    async def __aenter__(self) -> Self:
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        for member in self.members:
            member.end()

    def add_server(self, port: int) -> None:
        """A server that will listen on this port."""
        member = self._member("server", len(self.servers), HOLDLINE_PORT=str(port))
        self.servers.append(member)
        self.ports.append(port)

    def add_worker(self, model_url: str) -> None:
        """A worker whose model is there."""
        self.workers.append(self._member("worker", len(self.workers), OPENAI_BASE_URL=model_url))

    def _member(self, kind: str, number: int, **environ: str) -> Member:
        argv = [sys.executable, "-X", "faulthandler", "-m", *self._wrapper, kind]
        environ = self._environ | environ | clock_environ(self._folder, kind)
        member = Member(f"{kind}-{number}", argv, self._folder, environ)
        member.start()
        return member

    async def _keep(self) -> None:
        while True:
            away = time.monotonic() - self.redis_away_at < AWAY_SECONDS
            for member in self.members:
                member.keep(redis_was_away=away)
            await asyncio.sleep(0.02)  # the interval of the polling

    async def ready(self, seconds: float = START_SECONDS) -> bool:
        """Waits until everybody is ready; False if somebody is not in time."""
        deadline = time.monotonic() + seconds
        async with aiohttp.ClientSession() as http:
            waiting = list(self.members)
            while waiting and time.monotonic() < deadline:
                for member in list(waiting):
                    if member.alive and member.ready and await self._answers(http, member):
                        waiting.remove(member)
                await asyncio.sleep(0.02)  # the interval of the polling
        return not waiting

    async def _answers(self, http: aiohttp.ClientSession, member: Member) -> bool:
        if member.kind == "worker":
            return True
        with contextlib.suppress(aiohttp.ClientError, OSError):
            url = f"http://127.0.0.1:{self.ports[self.servers.index(member)]}/readyz"
            async with http.get(url, timeout=aiohttp.ClientTimeout(total=1)) as response:
                return response.status == 200
        return False
