"""P13 and P14: CPU time per answer and answers per second of a saturated gateway.

The peers are an HTTP gateway in Rust, LiteLLM's proxy and the polling design.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from bench.figures import Bound, Measure, Play, Sample
from bench.http_client import HttpClient, get, post
from bench.processes import Cpu, Process
from bench.rig import Rig, free_port

from .gateways import (
    AGENTIC,
    ANSWER_SECONDS,
    LITELLM,
    OURS,
    Gateway,
    agentic_api,
    connected,
    holdline,
    litellm,
    saturated,
)

SEED: Final = "polling every second"
CPU, RATE = "CPU", "answers per second"
POLL_SECONDS: Final = 1.0


@asynccontextmanager
async def contest(rig: Rig, size: Mapping[str, Any]) -> AsyncIterator[Mapping[str, Play]]:
    """Saturates each contestant in turn; the model answers immediately."""
    model, url = await rig.model()
    plays: dict[str, Play] = {OURS: partial(_streamed, await holdline(rig, url), model, size)}
    if agentic := await agentic_api(rig, url):
        plays[AGENTIC] = partial(_streamed, agentic, model, size)
    if proxy := await litellm(rig, url):
        fewer = {**size, "answers": size["answers"] // size["LiteLLM divisor"]}
        plays[LITELLM] = partial(_streamed, proxy, model, fewer)
    front = free_port()
    api = await rig.node("seed_api", str(front), package="bullmq")
    back = await rig.node("seed_worker", package="bullmq", OPENAI_BASE_URL=url)
    if api and back:
        parts = {"server": api, "worker": back, "redis": rig.redis}
        plays[SEED] = partial(_polled, front, parts, model, size)
    yield plays


async def _streamed(gateway: Gateway, model: Process, size: Mapping[str, Any]) -> Sample:
    cpu = Cpu(model, *gateway.parts.values())
    seconds = await saturated(gateway, size["tokens"], size["answers"], size["connections"])
    taken = cpu.taken()
    return _sample(taken, gateway.parts, size["answers"], size["answers"] / seconds)


async def _polled(
    port: int, parts: Mapping[str, Process], model: Process, size: Mapping[str, Any]
) -> Sample:
    """Saturates the polling design with many clients, of which most wait for their next poll."""
    done: list[float] = []
    request = post("/jobs", {"prompt": f"tokens={size['tokens']}"}, port)
    jobs = size["polling clients"] * size["polled answers each"]

    async def work(client: HttpClient) -> None:
        for _ in range(size["polled answers each"]):
            job = json.loads((await client.ask(request)).data.partition(b"\r\n\r\n")[2])["id"]
            status = b""
            while b'"done"' not in status:
                await asyncio.sleep(POLL_SECONDS)
                status = (await client.ask(get(f"/jobs/{job}", port))).data
            done.append(time.monotonic())

    async with connected(port, size["polling clients"]) as clients:
        cpu = Cpu(model, *parts.values())
        async with asyncio.timeout(ANSWER_SECONDS):
            await asyncio.gather(*map(work, clients))
        taken = cpu.taken()
    # At the beginning and at the end, the clients wait and the system is not saturated.
    first, last = jobs // 5, jobs - jobs // 5
    return _sample(taken, parts, jobs, (last - first) / (done[last - 1] - done[first - 1]))


def _sample(
    taken: Mapping[str, float], parts: Mapping[str, Process], answers: int, rate: float
) -> Sample:
    each = {role: taken[process.name] / answers * 1e3 for role, process in parts.items()}
    others = {"model": taken["model"] / answers * 1e3, "harness": taken["self"] / answers * 1e3}
    return {CPU: sum(each.values()), **each, **others, RATE: rate}


MEASURE = Measure(
    name="P13",
    title="Gateway: streamed answers at saturation, and the model answers immediately",
    sizes={
        "full": {
            "tokens": 50,
            "answers": 1_000,
            "connections": 50,
            "LiteLLM divisor": 40,
            "polling clients": 1_000,
            "polled answers each": 1,
        },
        "quick": {
            "tokens": 50,
            "answers": 400,
            "connections": 50,
            "LiteLLM divisor": 40,
            "polling clients": 500,
            "polled answers each": 1,
        },
    },
    units={
        CPU: "ms per answer",
        "server": "ms",
        "worker": "ms",
        "redis": "ms",
        "model": "ms",
        "harness": "ms",
        RATE: "",
    },
    bounds=(
        Bound(
            "CPU time per answer: Holdline divided by agentic-api",
            lambda one: one[OURS][CPU] / one[AGENTIC][CPU],
            most=1.0,
        ),
        Bound(
            "CPU time per answer: LiteLLM's proxy divided by Holdline",
            lambda one: one[LITELLM][CPU] / one[OURS][CPU],
            least=45,
        ),
        Bound(
            "P14, answers per second: Holdline divided by agentic-api",
            lambda one: one[OURS][RATE] / one[AGENTIC][RATE],
            least=1.1,
        ),
        Bound(
            "P14, answers per second: Holdline divided by Express and BullMQ, polled every second",
            lambda one: one[OURS][RATE] / one[SEED][RATE],
            least=3,
        ),
    ),
    open=contest,
)
