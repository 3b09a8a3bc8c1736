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
from bench.cluster import cluster
from bench.figures import Bound, Measure, Play, Round, Sample
from bench.processes import Cpu, Process
from bench.rig import Rig

PROCESSES: Final = "2"
PARTITIONS: Final = 30
PACE_SECONDS: Final = 0.1
BATCH: Final = 1_000  # of sockets, so that the connections do not exceed the listen queue
KIB: Final = 1024
IDLE_SECONDS: Final = 5.0
# The time limit for all answers. On a busy machine, they take much longer than their tokens.
REACHED_SECONDS: Final = 400.0
RATE, SERVER, REDIS, MEMORY = "rate", "server", "redis", "memory"
EXPECTED: Final = " estimated"
WOKEN: Final = " wake-ups"


@asynccontextmanager
async def contest(rig: Rig, size: Mapping[str, Any]) -> AsyncIterator[Mapping[str, Play]]:
    """Each contestant starts its own cluster, server and worker, one after the other."""
    _, url = await rig.model()
    yield {
        f"{sockets:,} sockets, {masters} masters": partial(_run, url, sockets, masters, size)
        for sockets, masters in size["points"]
    }


async def _run(url: str, sockets: int, masters: int, size: Mapping[str, Any]) -> Sample:
    """Streams answers to some of the sockets, and compares their cost with the estimate.

    The CPU time of an idle system is subtracted. The wake-ups per token tell how many tokens share
    one, which lowers their cost: on a busy machine more of them do.
    """
    streams, tokens = int(size["streams"]), int(size["tokens"])
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
        await asyncio.sleep(IDLE_SECONDS)
        idle = cpu.taken()
        loop = asyncio.get_running_loop()
        cpu, began = Cpu(server, *nodes.processes), loop.time()
        slept = {one.name: one.wake_ups() for one in (server, *nodes.processes)}
        for client in pool.clients[:streams]:
            client.send(create(f"tokens={tokens} pace={PACE_SECONDS}"))
        await pool.reached(streams, REACHED_SECONDS)
        taken, seconds = cpu.taken(), loop.time() - began
        slept = {one.name: one.wake_ups() - slept[one.name] for one in (server, *nodes.processes)}
        await dismiss(pool.clients)
    costs, said = Costs.measured(), streams * tokens

    def cost(*processes: Process) -> float:
        spent = (taken[one.name] - idle[one.name] * seconds / IDLE_SECONDS for one in processes)
        return max(sum(spent), 0.0) / said * 1e6

    def wake_ups(*processes: Process) -> float:
        return sum(slept[one.name] for one in processes) / said

    return {
        RATE: said / seconds,
        SERVER + WOKEN: wake_ups(server),
        SERVER: cost(server),
        SERVER + EXPECTED: (costs.server_per_token + costs.server_per_answer / tokens) * 1e6,
        REDIS + WOKEN: wake_ups(*nodes.processes),
        REDIS: cost(*nodes.processes),
        REDIS + EXPECTED: (costs.redis_per_token + costs.redis_per_answer / tokens) * 1e6,
        MEMORY: memory,
        MEMORY + EXPECTED: costs.socket_bytes / KIB,
    }


def _worst(quantity: str) -> Bound:
    def of(one: Round) -> float:
        return max(sample[quantity] / sample[quantity + EXPECTED] for sample in one.values())

    return Bound(f"{TEXTS[quantity]}: measured divided by estimated, highest", of, most=1.5)


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
            # Many systems limit a process to 20,000 open files.
            "points": ((1_000, 3), (5_000, 3), (5_000, 6), (18_000, 3)),
            "streams": 200,
            "tokens": 60,
        },
        "quick": {"points": ((200, 3), (200, 6)), "streams": 100, "tokens": 30},
    },
    units={RATE: "tokens per second"}
    | dict.fromkeys((SERVER + WOKEN, REDIS + WOKEN), "per token")
    | {name + end: unit for name, unit in UNITS.items() for end in ("", EXPECTED)},
    bounds=tuple(map(_worst, (SERVER, REDIS, MEMORY))),
    open=contest,
    warms_up=False,
)
