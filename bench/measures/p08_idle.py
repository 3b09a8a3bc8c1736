"""P8: the memory of an idle socket that has followed a response to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from bench.client import Arrivals, crowd, dismiss
from bench.client_pool import ClientPool, ask_all
from bench.figures import Bound, Measure, Play, Sample
from bench.processes import Process
from bench.rig import Rig, free_port

from .push import ENGINE, any_frame, engine_frame, floor, socketio

MEMORY = "memory"
SETTLE_SECONDS = 1.0


@asynccontextmanager
async def contest(rig: Rig, size: Mapping[str, Any]) -> AsyncIterator[Mapping[str, Play]]:
    """Measures the memory of each server for the same number of additional sockets."""
    sockets = size["sockets"]
    _, url = await rig.model()
    await rig.worker(url)
    yield {
        "holdline": partial(_ours, rig, sockets),
        "aiohttp": partial(_peer, rig, "aiohttp", sockets),
        "Socket.IO": partial(_peer, rig, "Socket.IO", sockets),
    }


async def _ours(rig: Rig, sockets: int) -> Sample:
    server, port = await rig.server(HOLDLINE_PING_SECONDS="300")
    try:
        before, after = ClientPool(), ClientPool()
        # The warm-up sockets cause the server's one-time allocations, which must not be measured.
        await before.connect(port, range(sockets // 10))
        await ask_all(before, "tokens=20")
        await asyncio.sleep(SETTLE_SECONDS)
        empty = server.resident()
        # Each batch is smaller than the warm-up. A larger burst of prompts would need more memory
        # for a moment, and the allocator would keep this memory although no idle socket uses it.
        for at in range(0, sockets, sockets // 20):
            some = ClientPool()
            await some.connect(port, range(at, at + sockets // 20))
            await ask_all(some, "tokens=20")
            after.clients += some.clients
        await asyncio.sleep(SETTLE_SECONDS)
        sample = _sample(server, empty, sockets)
        await dismiss(before.clients + after.clients)
        return sample
    finally:
        await server.end()


async def _peer(rig: Rig, name: str, sockets: int) -> Sample:
    port = free_port()
    server = await (floor if name == "aiohttp" else socketio)(rig, port)
    if server is None:
        return {}
    try:
        arrivals = Arrivals()
        take = any_frame if name == "aiohttp" else engine_frame
        path = "/?n={n}" if name == "aiohttp" else ENGINE
        clients = await crowd(
            port, path, range(sockets // 10), lambda c, payload: take(c, payload, arrivals)
        )
        await arrivals.reached(len(clients))
        await asyncio.sleep(SETTLE_SECONDS)
        empty = server.resident()
        clients += await crowd(
            port,
            path,
            range(len(clients), len(clients) + sockets),
            lambda c, payload: take(c, payload, arrivals),
        )
        await arrivals.reached(len(clients))
        await asyncio.sleep(SETTLE_SECONDS)
        sample = _sample(server, empty, sockets)
        await dismiss(clients)
        return sample
    finally:
        await server.end()


def _sample(server: Process, empty: int, sockets: int) -> Sample:
    return {MEMORY: (server.resident() - empty) / sockets / 1024, "empty": empty / 2**20}


MEASURE = Measure(
    name="P8",
    title="Memory of an idle socket that has followed an answer of 20 tokens to its end",
    # A few hundred sockets partly fit into memory that the allocator has already reserved. A bare
    # aiohttp socket takes 12 KiB with 600 sockets, but 15 KiB with 2,000 or 10,000 sockets.
    sizes={"full": {"sockets": 2_000}, "quick": {"sockets": 400}},
    units={MEMORY: "KiB per socket", "empty": "MiB before"},
    bounds=(
        Bound(
            "memory per idle socket: Holdline divided by bare aiohttp",
            lambda one: one["holdline"][MEMORY] / one["aiohttp"][MEMORY],
            most=1.25,
        ),
        Bound(
            "memory per idle socket: Holdline divided by Socket.IO with its Redis adapter",
            lambda one: one["holdline"][MEMORY] / one["Socket.IO"][MEMORY],
            most=1.3,
        ),
    ),
    open=contest,
    warms_up=False,
)
