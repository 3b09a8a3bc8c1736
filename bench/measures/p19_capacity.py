"""P19: checks the estimates of `bench.capacity` with real sockets, streams and masters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from bench.capacity import Costs
from bench.client import dismiss
from bench.client_pool import ClientPool, create
from bench.cluster import Masters, cluster
from bench.figures import Bound, Measure, Play, Round, Sample
from bench.processes import Cpu
from bench.rig import Rig

PROCESSES: Final = "2"
PARTITIONS: Final = 30
PACE_SECONDS: Final = 0.1
BATCH: Final = 1_000  # of sockets, so that the connections do not exceed the listen queue
KIB: Final = 1024
SERVER, REDIS, MEMORY = "server", "redis", "memory"
EXPECTED: Final = " estimated"


@asynccontextmanager
async def contest(rig: Rig, size: Mapping[str, Any]) -> AsyncIterator[Mapping[str, Play]]:
    """Each contestant starts its own cluster, server and worker, one after the other."""
    _, url = await rig.model()
    yield {
        f"{sockets:,} sockets, {masters} masters": partial(_run, url, sockets, masters, size)
        for sockets, masters in size["points"]
    }


async def _run(url: str, sockets: int, masters: int, size: Mapping[str, Any]) -> Sample:
    """Streams answers to some of the sockets.

    The number of streams is the same at each point, because tokens of few streams cost more.
    """
    streams, tokens = size["streams"], size["tokens"]
    async with Rig() as own, cluster(own, masters) as nodes:
        settings = {"REDIS_URL": nodes.url, "HOLDLINE_PARTITIONS": str(PARTITIONS)}
        await own.worker(url, HOLDLINE_CONCURRENCY="1000", **settings)
        server, port = await own.server(
            HOLDLINE_PROCESSES=PROCESSES, HOLDLINE_PING_SECONDS="300", **settings
        )
        # The supervisor logs nothing when it listens, so both processes are given time to start.
        await server.until(lambda: server.said.count("server ready") >= int(PROCESSES))
        before, pool = server.resident(), ClientPool()
        for start in range(0, sockets, BATCH):
            await pool.connect(port, range(start, min(start + BATCH, sockets)))
        memory = (server.resident() - before) / sockets / KIB
        cpu = Cpu(server, *nodes.processes)
        for client in pool.clients[:streams]:
            client.send(create(f"tokens={tokens} pace={PACE_SECONDS}"))
        await pool.reached(streams)
        taken = cpu.taken()
        idle = await _idle(nodes, tokens * PACE_SECONDS)
        await dismiss(pool.clients)
    costs, said = Costs.measured(), streams * tokens
    redis = sum(taken[process.name] for process in nodes.processes) - idle
    return {
        SERVER: taken[server.name] / said * 1e6,
        SERVER + EXPECTED: (costs.server_per_token + costs.server_per_answer / tokens) * 1e6,
        REDIS: max(redis, 0.0) / said * 1e6,
        REDIS + EXPECTED: (costs.redis_per_token + costs.redis_per_answer / tokens) * 1e6,
        MEMORY: memory,
        MEMORY + EXPECTED: costs.socket_bytes / KIB,
    }


async def _idle(nodes: Masters, seconds: float) -> float:
    """Returns the CPU seconds of all masters in a time without answers."""
    cpu = Cpu(*nodes.processes)
    await asyncio.sleep(seconds)
    taken = cpu.taken()
    return sum(taken[process.name] for process in nodes.processes)


def _worst(quantity: str) -> Bound:
    def of(one: Round) -> float:
        return max(sample[quantity] / sample[quantity + EXPECTED] for sample in one.values())

    return Bound(f"{TEXTS[quantity]}: measured divided by estimated, highest", of, most=1.3)


TEXTS: Final = {
    SERVER: "CPU time of the servers per token",
    REDIS: "CPU time of all masters per token",
    MEMORY: "memory of the servers per socket",
}
UNITS: Final = {SERVER: "µs per token", REDIS: "µs per token", MEMORY: "KiB per socket"}
MEASURE = Measure(
    name="P19",
    title="Capacity: costs with many sockets and masters, compared with the estimates",
    sizes={
        "full": {
            "points": ((1_000, 3), (5_000, 3), (5_000, 6), (20_000, 3)),
            "streams": 500,
            "tokens": 100,
        },
        "quick": {"points": ((200, 3), (200, 6)), "streams": 100, "tokens": 30},
    },
    units={name + end: unit for name, unit in UNITS.items() for end in ("", EXPECTED)},
    bounds=tuple(map(_worst, (SERVER, REDIS, MEMORY))),
    open=contest,
    warms_up=False,
)
