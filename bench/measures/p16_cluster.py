"""P16: what an event costs in a cluster, with three masters and with six."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final

from bench.client import dismiss
from bench.client_pool import ClientPool, ask_all
from bench.cluster import Masters, cluster
from bench.figures import Bound, Measure, Play, Sample
from bench.processes import Cpu
from bench.rig import Rig

FEW, MANY = "3 masters", "6 masters"
PARTITIONS: Final = 24
PACE_SECONDS: Final = 0.02
BUS, CPU, COMMANDS = "bus messages", "redis", "commands per answer and master"


@asynccontextmanager
async def contest(rig: Rig, size: Mapping[str, Any]) -> AsyncIterator[Mapping[str, Play]]:
    """Starts a server and a worker for each cluster; all answers are streamed over sockets."""
    _, url = await rig.model()
    plays: dict[str, Play] = {}
    async with AsyncExitStack() as stack:
        for name, count in ((FEW, 3), (MANY, 6)):
            masters = await stack.enter_async_context(cluster(rig, count))
            settings = {"REDIS_URL": masters.url, "HOLDLINE_PARTITIONS": str(PARTITIONS)}
            _, port = await rig.server(**settings)
            await rig.worker(url, **settings)
            plays[name] = partial(_stream, masters, port, size)
        yield plays


async def _stream(masters: Masters, port: int, size: Mapping[str, Any]) -> Sample:
    """Streams answers, and subtracts the costs of the same time without answers."""
    pool = ClientPool()
    await pool.connect(port, range(size["streams"]))
    loop = asyncio.get_running_loop()
    before, cpu = await masters.commands(), Cpu(*masters.processes)
    began, bus = loop.time(), await masters.bus_messages()
    await ask_all(pool, f"tokens={size['tokens']} pace={PACE_SECONDS}")
    seconds, busy = loop.time() - began, sum(_of_masters(cpu))
    commands = sum(await masters.commands()) - sum(before)
    sent = await masters.bus_messages() - bus
    await dismiss(pool.clients)
    before, cpu = await masters.commands(), Cpu(*masters.processes)
    await asyncio.sleep(seconds)
    idle = sum(_of_masters(cpu))
    commands -= sum(await masters.commands()) - sum(before)
    return {
        BUS: sent / pool.events,
        CPU: max(busy - idle, 0.0) / pool.events * 1e6,
        COMMANDS: commands / size["streams"] / len(masters.processes),
    }


def _of_masters(cpu: Cpu) -> list[float]:
    return [seconds for name, seconds in cpu.taken().items() if name != "self"]


MEASURE = Measure(
    name="P16",
    title="Redis Cluster: cost of an event that is streamed to a socket, without replicas",
    sizes={
        "full": {"streams": 100, "tokens": 150},
        "quick": {"streams": 40, "tokens": 50},
    },
    units={BUS: "per event", CPU: "µs per event", COMMANDS: ""},
    bounds=(
        Bound(
            "messages between masters per event, with 6 masters",
            lambda one: one[MANY][BUS],
            unit="messages",
            most=0.05,
        ),
        Bound(
            "CPU time of all masters per event: 6 masters divided by 3 masters",
            lambda one: one[MANY][CPU] / one[FEW][CPU],
            most=1.1,
        ),
        Bound(
            "answers for the same number of commands per master: 6 masters divided by 3 masters",
            lambda one: one[FEW][COMMANDS] / one[MANY][COMMANDS],
            least=1.8,
        ),
    ),
    open=contest,
)
