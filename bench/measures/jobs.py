"""Sends prompts at a steady rate through Holdline and through the polling design it replaces."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from statistics import quantiles
from typing import Any, Final

import aiohttp

from bench.client import dismiss
from bench.client_pool import ClientPool, create
from bench.figures import Play, Sample
from bench.processes import BenchError, Cpu, Process
from bench.rig import Rig, free_port

SOCKETS: Final = 100
POLL_SECONDS: Final = 1.0
OURS, SEED = "holdline", "polling every second"
CPU, DELAY = "whole system", "p50"


@asynccontextmanager
async def contest(rig: Rig, size: Mapping[str, Any]) -> AsyncIterator[Mapping[str, Play]]:
    """Sends Holdline and the polling design the same prompts; the model answers immediately."""
    model, url = await rig.model()
    server, port = await rig.server()
    worker = await rig.worker(url)
    plays: dict[str, Play] = {
        OURS: partial(_ours, rig, port, {"api": server, "worker": worker, "model": model}, size)
    }
    front = free_port()
    api = await rig.node("seed_api", str(front), package="bullmq")
    back = await rig.node("seed_worker", package="bullmq", OPENAI_BASE_URL=url)
    if api and back:
        parts = {"api": api, "worker": back, "model": model}
        plays[SEED] = partial(_seed, rig, front, parts, size)
    yield plays


async def _paced(size: Mapping[str, Any], ask: Any) -> None:
    """Calls `ask` with 0, 1, and so on, at the rate and for the time that `size` states."""
    count, rate = size["rate"] * size["seconds"], size["rate"]
    began = time.monotonic()
    for number in range(count):
        await asyncio.sleep(max(began + number / rate - time.monotonic(), 0))
        ask(number)


async def _ours(
    rig: Rig, port: int, parts: Mapping[str, Process], size: Mapping[str, Any]
) -> Sample:
    pool, asked, delays = ClientPool(), [0.0] * SOCKETS, []
    await pool.connect(port, range(SOCKETS))
    prompt = create(f"tokens={size['tokens']}")
    free = set(range(SOCKETS))

    def ask(number: int) -> None:
        at = number % SOCKETS
        if at not in free:
            raise BenchError("the system cannot sustain this rate")
        free.discard(at)
        asked[at] = time.monotonic()
        pool.clients[at].send(prompt)

    def whole(number: int, then: float) -> None:
        free.add(number)
        delays.append(then - asked[number])

    pool.on_whole = whole
    cpu = Cpu(rig.redis, *parts.values())
    await _paced(size, ask)
    await pool.reached(size["rate"] * size["seconds"])
    sample = _sample(cpu.taken(), parts, delays)
    await dismiss(pool.clients)
    return sample


async def _seed(
    rig: Rig, port: int, parts: Mapping[str, Process], size: Mapping[str, Any]
) -> Sample:
    delays: list[float] = []
    url, body = f"http://127.0.0.1:{port}/jobs", {"prompt": f"tokens={size['tokens']}"}
    connector = aiohttp.TCPConnector(limit=SOCKETS)
    tasks: set[asyncio.Task[None]] = set()
    async with aiohttp.ClientSession(connector=connector) as http:

        async def one() -> None:
            began = time.monotonic()
            async with http.post(url, json=body) as response:
                job = (await response.json())["id"]
            while True:
                await asyncio.sleep(POLL_SECONDS)
                async with http.get(f"{url}/{job}") as response:
                    if (await response.json())["status"] == "done":
                        break
            delays.append(time.monotonic() - began)

        cpu = Cpu(rig.redis, *parts.values())
        await _paced(size, lambda _: tasks.add(asyncio.create_task(one())))
        async with asyncio.timeout(60):
            await asyncio.gather(*tasks)
        return _sample(cpu.taken(), parts, delays)


def _sample(
    taken: Mapping[str, float], parts: Mapping[str, Process], delays: list[float]
) -> Sample:
    jobs = len(delays)
    each = {role: taken[process.name] / jobs * 1e3 for role, process in parts.items()}
    redis = taken["redis"] / jobs * 1e3
    cuts = quantiles(delays, n=100)
    return {
        CPU: each["api"] + each["worker"] + redis,
        "api": each["api"],
        "worker": each["worker"],
        "redis": redis,
        "model": each["model"],
        "harness": taken["self"] / jobs * 1e3,
        DELAY: cuts[49] * 1e3,
        "p99": cuts[98] * 1e3,
    }


UNITS: Final = {
    CPU: "CPU ms per job",
    "api": "ms",
    "worker": "ms",
    "redis": "ms",
    "model": "ms",
    "harness": "ms",
    DELAY: "ms",
    "p99": "ms",
}
