"""P12: the server's memory for sockets that never read while their responses are running."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from bench.answers import a_delta, running
from bench.client import Arrivals, Client, crowd, dismiss
from bench.client_pool import PATH, resume
from bench.figures import Bound, Measure, Play, Sample
from bench.rig import Rig
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe

ANSWERS = 10  # number of responses; each socket follows one of them
PIECE = "x" * 4_000
SETTLE_SECONDS = 0.5
READING, SLOW = "sockets that read", "sockets that never read"


@asynccontextmanager
async def contest(rig: Rig, size: Mapping[str, Any]) -> AsyncIterator[Mapping[str, Play]]:
    """Sends the same responses to sockets that read and to sockets that never read."""
    yield {
        READING: partial(_play, rig, size, reads=True),
        SLOW: partial(_play, rig, size, reads=False),
    }


async def _play(rig: Rig, size: Mapping[str, Any], *, reads: bool) -> Sample:
    server, port = await rig.server(HOLDLINE_PING_SECONDS="300")
    sockets, pieces, arrivals = size["sockets"], size["pieces"], Arrivals()

    def on_frame(_: Client, payload: bytes) -> None:
        arrivals.add(payload.count(b"x") // len(PIECE))

    try:
        async with Pipe(Redis(rig.redis_url), deadline=60) as pipe:
            writers = await running(pipe, ANSWERS)
            # The warm-up sockets cause the server's one-time allocations, which must not be
            # measured.
            warm = await crowd(port, PATH, range(max(sockets // 10, ANSWERS)), on_frame)
            # For each response, one warm-up socket reads and shows when the server has sent all
            # appended events.
            for client, writer in zip(warm, writers, strict=False):
                client.send(resume(writer.response_id))
            await asyncio.sleep(SETTLE_SECONDS)
            empty = peak = server.resident()
            clients = await crowd(port, PATH, range(sockets), on_frame, reads=reads)
            for client in clients:
                client.send(resume(writers[client.number % ANSWERS].response_id))
            await asyncio.sleep(SETTLE_SECONDS)
            for number in range(pieces):
                for writer in writers:
                    await writer.append([a_delta(writer.response_id, PIECE)])
                readers = ANSWERS + (sockets if reads else 0)
                await arrivals.reached(readers * (number + 1))
                peak = max(peak, server.resident())
            await asyncio.sleep(SETTLE_SECONDS)
            held = server.resident()
            await dismiss(warm + clients)
    finally:
        await server.end()
    return {
        "held": (max(peak, held) - empty) / sockets / 1024,
        "at the end": (held - empty) / sockets / 1024,
        "sent to each": pieces * len(PIECE) / 1024,
    }


MEASURE = Measure(
    name="P12",
    title="Slow sockets: memory of sockets that never read, compared with sockets that read",
    sizes={"full": {"sockets": 1_000, "pieces": 120}, "quick": {"sockets": 200, "pieces": 100}},
    units={
        "held": "KiB per socket",
        "at the end": "KiB per socket",
        "sent to each": "KiB",
    },
    bounds=(
        Bound(
            "memory per socket: sockets that never read, divided by sockets that read",
            lambda one: one[SLOW]["held"] / one[READING]["held"],
            most=1.2,
        ),
    ),
    open=contest,
    warms_up=False,
)
