"""The servers and workers of a run, which are restarted when they die."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Self

import aiohttp

from tests.chaos.clocks import clock_environ
from tests.system import PREFIX, ROOT, START_SECONDS, Process, start_process
from tests.upgrade.releases import Release

HANG_SECONDS = 8.0
# A server that starts while Redis is unavailable exits within this many seconds.
AWAY_SECONDS = 10.0

# Errors that the faults may cause by design, because a job can use up all its attempts.
EXPECTED = frozenset({"dead list has grown: its responses need an operator"})


class Member:
    """A server or worker. When its process ends, the member starts a new process.

    A kill specifies the time until the restart. An unexpected death is recorded as an anomaly.
    With another version of Holdline, `flip` determines the version of the next process.
    """

    def __init__(
        self,
        name: str,
        argv: list[str],
        folder: Path,
        environ: dict[str, str],
        other: Release | None = None,
    ) -> None:
        self.name = name
        self.starts = 0
        self.paused = False
        self.anomalies: list[str] = []
        self._argv = argv
        self._versions = [Release("the checkout", ROOT, argv[0]), *([other] if other else [])]
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
        """The pid of the current process."""
        assert self._process is not None
        return self._process.popen.pid

    @property
    def alive(self) -> bool:
        """Whether the process is running and has not been asked to stop."""
        process = self._process
        return process is not None and process.popen.poll() is None and self._asked is None

    @property
    def output(self) -> str:
        """The output of the current process."""
        return self._output.read_bytes()[self._read_from :].decode(errors="replace")

    def start(self) -> None:
        """Starts the next process."""
        self._read_from = self._output.stat().st_size if self._output.exists() else 0
        release = self._versions[0]
        argv = [release.python, *self._argv[1:]]
        self._process = start_process(
            Process, self.name, argv, self._output, self._environ, release.folder
        )
        self._asked, self.paused = None, False
        self.starts += 1

    @property
    def version(self) -> str:
        """The version that the next process runs."""
        return self._versions[0].version

    def flip(self) -> None:
        """Makes the next process run the other version."""
        self._versions.reverse()

    def kill(self, away: float) -> None:
        """Sends SIGKILL. The next process starts `away` seconds later."""
        self._stop(signal.SIGKILL, away)

    def term(self, away: float) -> None:
        """Sends SIGTERM. The next process starts `away` seconds after this process has ended."""
        self._stop(signal.SIGTERM, away)

    def pause(self) -> None:
        """Sends SIGSTOP."""
        if self.alive and self._process is not None:
            self.paused = True
            self._process.signal(signal.SIGSTOP)

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal that does not end the process."""
        if self._process is not None:
            self._process.signal(number)

    def resume(self) -> None:
        """Sends SIGCONT."""
        if self.paused and self._process is not None and self._process.popen.poll() is None:
            self._process.signal(signal.SIGCONT)
        self.paused = False

    def _stop(self, number: signal.Signals, away: float) -> None:
        if self.alive and self._process is not None:
            self._asked, self._asked_at, self._back_at = number, time.monotonic(), away
            self._process.signal(number)

    def keep(self, *, redis_was_away: bool) -> None:
        """Restarts a dead process and kills a hanging process. This method must be called often."""
        if self._process is None:
            return
        status, now = self._process.popen.poll(), time.monotonic()
        if status is None:
            if self._asked is not None and now - self._asked_at > HANG_SECONDS:
                self._record_hang()
                self._asked_at, self._asked = now, signal.SIGKILL
            return
        if self._asked is None:
            # A server that starts while Redis is unavailable exits, so it is started again.
            if not (redis_was_away and self.kind == "server" and status == 1):
                self.anomalies.append(f"{self.name} ended by itself, status {status}:\n{self.tail}")
            self._asked, self._back_at = signal.SIGKILL, 0.2
        elif self._asked is signal.SIGTERM and status not in (0, -signal.SIGKILL):
            # A SIGTERM that arrives before Python has installed the signal handlers kills the
            # process.
            if status != -signal.SIGTERM or self.ready:
                self.anomalies.append(f"{self.name} answered SIGTERM with {status}:\n{self.tail}")
            self._asked = signal.SIGKILL
        # Until the end of the process is noticed, `_back_at` is the delay until the restart, in
        # seconds. After that, it is the time of the restart plus 1e6, which is far larger than any
        # delay.
        if self._back_at < 1e6:
            self._back_at = now + self._back_at + 1e6
        elif now + 1e6 >= self._back_at:
            self.start()

    def _record_hang(self) -> None:
        """Records a hanging process with its state and stack traces, and kills it."""
        assert self._process is not None
        state = [
            line.replace("\t", " ")
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines()
            if line.startswith(("State", "SigPnd", "ShdPnd", "SigBlk", "SigCgt"))
        ]
        asked = (self._asked or signal.SIGTERM).name
        self._process.signal(signal.SIGABRT)
        self._process.signal(signal.SIGCONT)
        time.sleep(0.5)  # time to print the stack traces
        self._process.signal(signal.SIGKILL)
        what = f"did not end {HANG_SECONDS:.0f} s after {asked}"
        self.anomalies.append("\n".join([f"{self.name} {what}", ", ".join(state), self.tail]))

    @property
    def kind(self) -> str:
        """The kind of process: `server` or `worker`."""
        return self.name.partition("-")[0]

    @property
    def ready(self) -> bool:
        """Whether the process has logged that it is ready."""
        return f"{self.kind} ready" in self.output

    @property
    def tail(self) -> str:
        """The last lines of the process's output."""
        return "\n".join(self.output.splitlines()[-16:])

    def errors(self) -> list[str]:
        """Returns the distinct error logs and tracebacks of all processes, with counts."""
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
                entry = json.loads(line)
                if (
                    isinstance(entry, dict)
                    and entry.get("level") in ("error", "critical")
                    and entry.get("event") not in EXPECTED
                ):
                    last = str(entry.pop("exception", "")).splitlines()[-6:]
                    entry.pop("timestamp", None)
                    found["\n".join([json.dumps(entry), *last])] += 1
        return [f"{self.name} logged {number} x {what}" for what, number in found.items()]

    def end(self) -> None:
        """Kills the process and does not restart it."""
        if self._process is not None:
            self._process.popen.kill()
            self._process.popen.wait()
            self._process = None


class Fleet:
    """All servers and workers. It is an async context manager."""

    def __init__(
        self,
        folder: Path,
        environ: dict[str, str],
        wrapper: tuple[str, ...] = (),
        other: Release | None = None,
    ) -> None:
        """`wrapper` is the module, with its arguments, through which each process is started.

        With `other`, every second server and worker begins with this version.
        """
        self._folder = folder
        self._other = other
        self._environ = environ
        self._wrapper = wrapper
        self.servers: list[Member] = []
        self.workers: list[Member] = []
        self.ports: list[int] = []
        self.redis_away_at = -100.0
        self._keeper: asyncio.Task[None] | None = None

    @property
    def members(self) -> list[Member]:
        """All servers and workers."""
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
        """Starts a server on the given port."""
        member = self._member("server", len(self.servers), HOLDLINE_PORT=str(port))
        self.servers.append(member)
        self.ports.append(port)

    def add_worker(self, model_url: str) -> None:
        """Starts a worker with the given model."""
        self.workers.append(self._member("worker", len(self.workers), OPENAI_BASE_URL=model_url))

    def _member(self, kind: str, number: int, **environ: str) -> Member:
        module = (*self._wrapper, kind) if self._wrapper else (PREFIX + kind,)
        argv = [sys.executable, "-X", "faulthandler", "-m", *module]
        environ = self._environ | environ | clock_environ(self._folder, kind)
        member = Member(f"{kind}-{number}", argv, self._folder, environ, self._other)
        if number % 2:
            member.flip()
        member.start()
        return member

    async def _keep(self) -> None:
        while True:
            away = time.monotonic() - self.redis_away_at < AWAY_SECONDS
            for member in self.members:
                member.keep(redis_was_away=away)
            await asyncio.sleep(0.02)  # the polling interval

    async def ready(self, seconds: float = START_SECONDS) -> bool:
        """Waits until all members are ready. Returns False if this takes longer than `seconds`."""
        deadline = time.monotonic() + seconds
        async with aiohttp.ClientSession() as http:
            waiting = list(self.members)
            while waiting and time.monotonic() < deadline:
                for member in list(waiting):
                    if member.alive and member.ready and await self._answers(http, member):
                        waiting.remove(member)
                await asyncio.sleep(0.02)  # the polling interval
        return not waiting

    async def _answers(self, http: aiohttp.ClientSession, member: Member) -> bool:
        if member.kind == "worker":
            return True
        with contextlib.suppress(aiohttp.ClientError, OSError):
            url = f"http://127.0.0.1:{self.ports[self.servers.index(member)]}/readyz"
            async with http.get(url, timeout=aiohttp.ClientTimeout(total=1)) as response:
                return response.status == 200
        return False
