"""A server, workers and a model on a Redis with faults, and checks that all of them recover."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.fake_model import FakeModel
from tests.paths.redis_faults.clients import streamed
from tests.paths.redis_faults.store import Store
from tests.system import Process, Server, System

RECOVERY_SECONDS = 10.0
# The allowed growth of a footprint: a client library's connection pool may vary in size.
SLACK = 3


@dataclass
class Footprint:
    """The system resources that a process holds."""

    fds: int
    threads: int

    def fits(self, before: Footprint) -> bool:
        """Returns whether the footprint has not grown."""
        return self.fds <= before.fds + SLACK and self.threads <= before.threads + SLACK


@dataclass
class Deployment:
    """The running system. `before` holds the largest footprint of each kind of process."""

    store: Store
    model: FakeModel
    system: System
    server: Server
    workers: list[Process]
    before: dict[str, Footprint]

    @property
    def processes(self) -> list[Process]:
        return [self.server, *self.workers]

    def footprints(self) -> list[tuple[str, Footprint]]:
        """Returns the name and footprint of every running process."""
        return [
            (process.name, _footprint(process, self.model))
            for process in self.processes
            if process.popen.poll() is None
        ]


@contextlib.asynccontextmanager
async def deploy(
    store: Store, folder: Path, *, workers: int = 1, redis_url: str = "", **environ: str
) -> AsyncIterator[Deployment]:
    """Starts a deployment and sends one prompt, so that lazily opened connections are open."""
    async with (
        FakeModel() as model,
        System(redis_url or store.url, folder) as system,
    ):
        system.environ |= environ
        server, them = await asyncio.gather(
            system.server(),
            asyncio.gather(*(system.worker(model.url) for _ in range(workers))),
        )
        found = Deployment(store, model, system, server, them, {})
        async with streamed(server, "warm up") as answer:
            await answer.wait_for_end()
        for name, now in found.footprints():
            most = found.before.setdefault(name, now)
            found.before[name] = Footprint(max(most.fds, now.fds), max(most.threads, now.threads))
        yield found


async def wait_for_baseline(deployment: Deployment, seconds: float = RECOVERY_SECONDS) -> None:
    """Waits until the deployment is idle again. Fails after `seconds`.

    Idle means that Redis has no waiting or leased job and no key without a TTL, that no client
    follows a response, and that every process has as many open files and threads as before.
    """
    deadline = time.monotonic() + seconds
    while found := await _leftovers(deployment):
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.1)  # polling interval


async def _leftovers(deployment: Deployment) -> dict[str, Any]:
    found = await deployment.store.leftovers()
    if followers := await deployment.server.metric("holdline_followers"):
        found["followers"] = followers
    if not await _ready(deployment.server):
        found["server"] = "not ready"
    for name, now in deployment.footprints():
        if not now.fits(deployment.before[name]):
            found[name] = now, deployment.before[name]
    return found


async def _ready(server: Server) -> bool:
    async with aiohttp.ClientSession() as http, http.get(f"{server.url}/readyz") as response:
        return response.status == 200


def _footprint(process: Process, model: FakeModel) -> Footprint:
    """Returns a process's footprint.

    Pooled connections to the model are not counted, because they expire later.
    """
    own = Path(f"/proc/{process.popen.pid}")
    pooled = _sockets_to(own, int(model.url.rsplit(":", 1)[1].partition("/")[0]))
    fds = 0
    for fd in (own / "fd").iterdir():
        with contextlib.suppress(OSError):
            fds += str(fd.readlink()) not in pooled
    return Footprint(fds, len(list((own / "task").iterdir())))


def _sockets_to(own: Path, port: int) -> set[str]:
    rows = [line.split() for line in (own / "net/tcp").read_text().splitlines()[1:]]
    return {f"socket:[{row[9]}]" for row in rows if row[2].endswith(f":{port:04X}")}


def cpu_seconds(process: Process) -> float:
    """Returns the processor time that a process has used so far, in user and kernel mode."""
    fields = Path(f"/proc/{process.popen.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
