"""P9: a server dies, and all its clients connect to another server at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from bench.background import all_completed, in_background
from bench.client import Client, crowd, dismiss
from bench.client_pool import PATH, ClientPool, resume
from bench.figures import Bound, Measure, Play, Sample
from bench.processes import Cpu, Process
from bench.rig import Rig

HAD = 2  # the last sequence number that each client has received before its server dies


@asynccontextmanager
async def contest(rig: Rig, size: Mapping[str, Any]) -> AsyncIterator[Mapping[str, Play]]:
    """Measures a server to which all clients return, each to resume its own completed response."""
    model, url = await rig.model()
    server, port = await rig.server()
    worker = await rig.worker(url)
    ids = await in_background(port, size["clients"], f"tokens={size['tokens']}")
    await all_completed(rig, ids)
    await worker.end()
    await model.end()
    yield {"holdline": partial(_play, rig, server, port, ids)}


async def _play(rig: Rig, server: Process, port: int, ids: list[str]) -> Sample:
    dying, at = await rig.server()
    gone = await crowd(at, PATH, range(len(ids)), lambda *_: None)
    await dying.end()
    pool = ClientPool()

    async def come_back(number: int) -> None:
        client = await Client.connect(port, PATH, number, pool.take)
        pool.clients.append(client)
        client.send(resume(ids[number], HAD))

    cpu, began = Cpu(server, rig.redis), time.monotonic()
    await asyncio.gather(*(come_back(client.number) for client in gone))
    connected = time.monotonic() - began
    await pool.reached(len(ids))
    last = max(pool.times.values()) - began
    taken = cpu.taken()
    await dismiss(pool.clients)
    return {
        "all complete": last,
        "all connected": connected,
        "lost": len(ids) - len(pool.times),
        "server": taken[server.name] / len(ids) * 1e6,
        "redis": taken["redis"] / len(ids) * 1e6,
        "harness": taken["self"] / len(ids) * 1e6,
    }


MEASURE = Measure(
    name="P9",
    title="Failover: all clients of a dead server connect to another server at once and resume",
    sizes={"full": {"clients": 3_000, "tokens": 50}, "quick": {"clients": 300, "tokens": 50}},
    units={
        "all complete": "s",
        "all connected": "s",
        "lost": "answers",
        **dict.fromkeys(("server", "redis", "harness"), "µs per client"),
    },
    bounds=(
        Bound(
            "time from the death of a server until all answers are complete, s",
            lambda one: one["holdline"]["all complete"],
            unit="s",
            most=3,
        ),
        Bound(
            "answers that were lost because a server died",
            lambda one: one["holdline"]["lost"],
            unit="answers",
            most=0,
        ),
    ),
    open=contest,
    warms_up=False,
)
