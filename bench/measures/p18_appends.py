"""P18: the appends to a log for each stream, and the latency of tokens while the worker is busy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from bench.client import dismiss
from bench.client_pool import create
from bench.figures import Bound, Measure, Play, Sample
from bench.processes import Cpu, Process
from bench.rig import Rig

from .p06_tokens import BEGIN_SECONDS, Listening, latencies

RATE: Final = 50
BUSY, CALM = "200 x 50", "1 x 50"
APPENDS = "appends"


@asynccontextmanager
async def contest(rig: Rig, size: Mapping[str, Any]) -> AsyncIterator[Mapping[str, Play]]:
    """Streams answers of 50 tokens per second, 200 at once and one alone."""
    _, url = await rig.model()
    _, port = await rig.server()
    worker = await rig.worker(url, HOLDLINE_CONCURRENCY="500")
    yield {
        name: partial(_stream, rig, port, worker, streams, size["seconds"])
        for name, streams in ((BUSY, 200), (CALM, 1))
    }


async def _stream(rig: Rig, port: int, worker: Process, streams: int, seconds: int) -> Sample:
    pool = Listening()
    await pool.connect(port, range(streams))
    cpu = Cpu(worker)
    for client in pool.clients:
        client.send(create(f"tokens={RATE * seconds} pace={1 / RATE}"))
    # Between the beginning and the end of the answers, only appends publish messages to clients.
    await asyncio.sleep(BEGIN_SECONDS)
    window = seconds - BEGIN_SECONDS - 0.5
    began, before = asyncio.get_running_loop().time(), (await rig.calls())["spublish"]
    await asyncio.sleep(window)
    appends = (await rig.calls())["spublish"] - before
    took = asyncio.get_running_loop().time() - began
    await pool.reached(streams)
    used = cpu.taken()[worker.name]
    await dismiss(pool.clients)
    return {
        APPENDS: appends / took / streams,
        **latencies(pool.ages),
        "worker": used / seconds / streams * 1e3,
    }


MEASURE = Measure(
    name="P18",
    title="Appends to the log of a stream of 50 tokens per second, and latency of its tokens",
    sizes={"full": {"seconds": 5}, "quick": {"seconds": 3}},
    units={
        APPENDS: "per second and stream",
        "p50": "ms",
        "p99": "ms",
        "worker": "ms of CPU time per second and stream",
    },
    bounds=(
        Bound(
            "appends per second of a stream, with 200 streams",
            lambda one: one[BUSY][APPENDS],
            unit="appends",
            most=20,
        ),
        Bound(
            "p99 of the token latency with 200 streams, ms",
            lambda one: one[BUSY]["p99"],
            unit="ms",
            most=80,
        ),
        Bound(
            "p50 of the token latency with one stream, ms",
            lambda one: one[CALM]["p50"],
            unit="ms",
            most=1.2,
        ),
    ),
    open=contest,
)
