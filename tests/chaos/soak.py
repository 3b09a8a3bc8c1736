"""Checks for leaks under a steady load of prompts, resumes, cancels and deletes: `make soak`.

In the last tenth of the time, each process must use as much memory, and as many file descriptors
and tasks, as in the second tenth, and Redis must have as many keys. After that, garbage collection
must find no Holdline objects. If a check fails, the exit status is 1.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import sys
import time
from collections import deque
from pathlib import Path
from statistics import mean
from typing import Any

import aiohttp

from jobs.redis.pipe import Pipe
from jobs.redis.url import redis_from_url
from tests.chaos.clients import Workload
from tests.chaos.fleet import Fleet, Member
from tests.chaos.run import end, environ, open_files, swarm, until, work_folder
from tests.chaos.storage import free_port, running
from tests.fake_model import FakeModel

RETENTION_SECONDS = 20.0
SAMPLE_SECONDS = 2.0
GARBAGE_SECONDS = 15.0
# The allowed growth of each resource: a share of the mean, plus a fixed amount for random
# variation.
ALLOWED = {"memory": (0.1, 6e6), "files": (0.0, 12), "tasks": (0.0, 20), "keys": (0.2, 60)}

Sample = dict[str, float]


def memory(member: Member) -> int:
    """Returns a process's anonymous memory in bytes."""
    status = Path(f"/proc/{member.pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


async def probe(member: Member, folder: Path) -> dict[str, Any]:
    """Returns the counts reported by a process; see `tests.chaos.probe`."""
    path = folder / f"probe-{member.pid}.json"
    path.unlink(missing_ok=True)
    assert member.alive
    member.send_signal(signal.SIGUSR1)
    await until(path.exists, time.monotonic() + 10)
    told: dict[str, Any] = json.loads(path.read_text())
    return told


async def tasks_of(http: aiohttp.ClientSession, port: int) -> float:
    """Returns the number of tasks according to a server's metrics."""
    async with http.get(f"http://127.0.0.1:{port}/metrics") as response:
        page = await response.text()
    return float(page.partition("\nholdline_tasks ")[2].split()[0])


async def sample(fleet: Fleet, pipe: Pipe, http: aiohttp.ClientSession) -> Sample:
    """Returns the current usage of each resource, keyed by the resource's name."""
    now: Sample = {"keys": float(await pipe.call("DBSIZE"))}
    for member in fleet.members:
        now[f"{member.name} memory"] = memory(member)
        now[f"{member.name} files"] = open_files(member)
    for server, port in zip(fleet.servers, fleet.ports, strict=True):
        now[f"{server.name} tasks"] = await tasks_of(http, port)
    return now


def growth_report(before: list[Sample], after: list[Sample]) -> list[str]:
    """Returns one line per resource, with its early and its late mean.

    FAILED marks a resource that has grown too much.
    """
    lines: list[str] = []
    for name in before[0]:
        old, new = (mean(one[name] for one in samples) for samples in (before, after))
        share, number = ALLOWED[name.rpartition(" ")[2]]
        verdict = "FAILED" if new > old * (1 + share) + number else ""
        lines.append(f"{name:18} {old:14,.0f} {new:14,.0f} {verdict}".rstrip())
    return lines


async def soak(seconds: float, folder: Path) -> list[str]:
    """Runs the load and returns the report."""
    rng = random.Random()
    data = folder / "redis"
    data.mkdir()
    async with contextlib.AsyncExitStack() as stack:
        storage = await stack.enter_async_context(running(data, free_port(rng)))
        model = await stack.enter_async_context(FakeModel())
        settings = environ(f"redis://127.0.0.1:{storage.port}", 5.0, None) | {
            "HOLDLINE_RETENTION_SECONDS": f"{RETENTION_SECONDS:g}",
            "SOAK_FOLDER": str(folder),
        }
        fleet = Fleet(folder, settings, ("tests.chaos.probe",))
        await stack.enter_async_context(fleet)
        for _ in range(2):
            fleet.add_server(free_port(rng))
            fleet.add_worker(model.url)
        assert await fleet.ready(), "\n".join(member.tail for member in fleet.members)
        connector = aiohttp.TCPConnector(limit=0)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        pipe = await stack.enter_async_context(
            redis_from_url(f"redis://127.0.0.1:{storage.port}", None).pipe()
        )
        workload = Workload([f"http://127.0.0.1:{port}" for port in fleet.ports], http)
        clients = swarm(workload, rng.randrange(1_000_000))
        for client in clients:
            client.trace.entries = deque(maxlen=0)
        tasks = [asyncio.create_task(client.run()) for client in clients]
        stack.push_async_callback(end, tasks)
        began = time.monotonic()
        samples: list[tuple[float, Sample]] = []
        while (at := time.monotonic() - began) < seconds:
            samples.append((at / seconds, await sample(fleet, pipe, http)))
            await asyncio.sleep(SAMPLE_SECONDS)
        before = [one for at, one in samples if 0.1 <= at < 0.2]
        after = [one for at, one in samples if at >= 0.9]
        report = [
            f"{workload.count} asked, {len(model.calls)} calls",
            *growth_report(before, after),
        ]
        told = [await probe(member, folder) for member in fleet.members]
        await asyncio.sleep(GARBAGE_SECONDS)
        told = [await probe(member, folder) for member in fleet.members]
        for member, one in zip(fleet.members, told, strict=True):
            verdict = f"FAILED: {one['garbage']}" if one["garbage"] else "none"
            report.append(f"{member.name:18} garbage objects: {verdict}, {one['tasks']} tasks")
            oddities = [*member.anomalies, *member.errors()]
            report += [f"FAILED: {oddity}" for oddity in oddities]
    return report


def main() -> int:
    """Returns the exit status."""
    with work_folder() as work:
        report = asyncio.run(soak(float(sys.argv[1]), Path(work)))
    print("\n".join(report))
    return int(any("FAILED" in line for line in report))


if __name__ == "__main__":
    sys.exit(main())
