"""Fixtures: a system to attack, a normal client, and checks that an attack caused no damage."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

import aiohttp
import pytest

from command.up.redis import embedded_redis_sync
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from tests.fake_model import FakeModel
from tests.keys_without_ttl import keys_without_ttl
from tests.system import EXTENSIONS, Process, Server, System, wait_until

REQUEST_SECONDS = 1.0
# The memory growth in bytes that is allowed after a busy minute, for caches, arenas and buffers
# that a process keeps. Larger growth is a leak.
RSS_SLACK = 24 * 1024 * 1024
# The number of other clients' requests that may be in flight during a check. A leak caused by an
# attack would be in the hundreds.
GAUGE_SLACK = 3
TRACES = ("Traceback", "unhandled error")


@dataclass(frozen=True)
class Footprint:
    """The resources that a process holds."""

    rss: int
    fds: int
    gauges: dict[str, float]


@dataclass
class Target:
    """The system under attack.

    `decoy` is a second server that can be attacked instead of `server`.
    """

    server: Server
    decoy: Server
    worker: Process
    model: FakeModel
    pipe: Pipe
    before: dict[str, Footprint] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.server.url

    async def gauges(self) -> dict[str, float]:
        """Returns the server's gauges of open sockets, followers and tasks."""
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{self.url}/metrics", headers={"Connection": "close"}) as answer,
        ):
            text = await answer.text()
        names = ("holdline_sockets", "holdline_followers", "holdline_tasks")
        rows = re.findall(r"^(\w+) (\S+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in rows if name in names}

    async def footprints(self) -> dict[str, Footprint]:
        """Returns the resources that the server and the worker hold now."""
        gauges = await self.gauges()
        gauges["keys in Redis"] = float(await self.pipe.call("DBSIZE"))
        return {
            process.name: Footprint(_rss(process), _fds(process), gauges)
            for process in (self.server, self.worker)
        }

    async def send_request(self, prompt: str = "tokens=3") -> str:
        """Sends a request as another client and returns the status.

        The request must always succeed.
        """
        body = {"input": prompt, "model": "m"}
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as http,
            http.post(f"{self.url}/v1/responses", json=body) as answer,
        ):
            assert 200 == answer.status
            status: str = (await answer.json())["status"]
            return status

    async def check_unharmed(self) -> None:
        """Checks that no process crashed, leaked or logged an error, and that requests succeed."""
        assert "completed" == await self.send_request()
        deadline = time.monotonic() + 15
        while grown := self._growth(await self.footprints()):
            assert time.monotonic() < deadline, grown
            await asyncio.sleep(0.1)  # the polling interval
        assert [] == await keys_without_ttl(self.pipe)
        for process in (self.server, self.worker):
            assert process.popen.poll() is None, process.output
            for trace in TRACES:
                assert trace not in process.output, process.output

    def _growth(self, now: dict[str, Footprint]) -> list[str]:
        grown = []
        for name, then in self.before.items():
            found = now[name]
            if found.fds > then.fds + 3:
                grown.append(f"{name}: {then.fds} -> {found.fds} fds")
            if found.rss > then.rss + RSS_SLACK:
                grown.append(f"{name}: {then.rss} -> {found.rss} bytes")
            grown += [
                f"{gauge}: {value} -> {found.gauges[gauge]}"
                for gauge, value in then.gauges.items()
                if found.gauges[gauge] > value + GAUGE_SLACK
            ]
        return grown


def _rss(process: Process) -> int:
    status = Path(f"/proc/{process.popen.pid}/status").read_text()
    return 1024 * int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0])


def _fds(process: Process) -> int:
    return len(list(Path(f"/proc/{process.popen.pid}/fd").iterdir()))


@dataclass(frozen=True)
class _Running:
    server: Server
    decoy: Server
    worker: Process
    model: FakeModel
    redis_url: str


async def _run(
    url: str, folder: Path, ready: list[_Running], started: threading.Event, stop: asyncio.Event
) -> None:
    async with FakeModel() as model, System(url, folder) as system:
        system.environ["HOLDLINE_RETENTION_SECONDS"] = "1"
        server, decoy, worker = await asyncio.gather(
            system.server(HOLDLINE_REQUEST_SECONDS=str(REQUEST_SECONDS)),
            system.server(HOLDLINE_REQUEST_SECONDS=str(REQUEST_SECONDS)),
            system.worker(model.url),
        )
        ready.append(_Running(server, decoy, worker, model, url))
        started.set()
        await stop.wait()


@pytest.fixture(scope="module")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Running]:
    """Runs the system in a thread with its own event loop, as `tests/paths` does."""
    started, ready = threading.Event(), list[_Running]()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def run(url: str, folder: Path) -> None:
        try:
            loop.run_until_complete(_run(url, folder, ready, started, stop))
        finally:
            started.set()
            loop.close()

    with embedded_redis_sync() as url:
        thread = threading.Thread(target=run, args=(url, tmp_path_factory.mktemp("attacked")))
        thread.start()
        started.wait(60)
        try:
            yield ready[0]
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(30)


@pytest.fixture
async def target(_running: _Running) -> AsyncIterator[Target]:
    """Yields a warmed-up system, and checks the system for damage after the test."""
    async with Pipe(Redis(_running.redis_url)) as pipe:
        running = _running
        target = Target(running.server, running.decoy, running.worker, running.model, pipe)
        await target.send_request()
        target.before = await target.footprints()
        yield target
        await target.check_unharmed()


class Waits(NamedTuple):
    """Round-trip times of pings, in seconds."""

    median: float
    p99: float

    def __str__(self) -> str:
        return f"{1000 * self.median:.1f} ms (p99 {1000 * self.p99:.1f})"


class Victim:
    """A client that measures the time from each ping to its pong.

    It is an async context manager.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self.waits: list[float] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession()
        self._ws = await self._http.ws_connect(self._target.server.ws_url, protocols=EXTENSIONS)
        self._task = asyncio.create_task(self._ping_forever())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._ws.close()
        await self._http.close()

    async def measure(self, count: int = 200) -> Waits:
        """Measures the next `count` round trips."""
        self.waits.clear()
        await wait_until(lambda: len(self.waits) >= count, 40)
        waits = sorted(self.waits)
        return Waits(waits[count // 2], waits[int(0.99 * count) - 1])

    async def _ping_forever(self) -> None:
        number = 0
        while True:
            number += 1
            began = time.monotonic()
            await self._ws.send_json({"type": "holdline:ping", "id": number})
            while (message := await self._ws.receive_json(timeout=20)).get("id") != number:
                assert message["type"] == "holdline:welcome"
            self.waits.append(time.monotonic() - began)
            await asyncio.sleep(0.012)  # slow enough to stay below the socket's message limit


@pytest.fixture
async def victim(target: Target) -> AsyncIterator[Victim]:
    async with Victim(target) as victim:
        yield victim
