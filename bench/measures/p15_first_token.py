"""P15: the time to the first token that a gateway adds to that of the model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from statistics import quantiles
from typing import TYPE_CHECKING, Any

from bench.figures import Bound, Measure, Play, Sample
from bench.rig import Rig

from .gateways import (
    AGENTIC,
    ANSWER_SECONDS,
    MODEL,
    OURS,
    Gateway,
    agentic_api,
    connected,
    holdline,
)

if TYPE_CHECKING:
    from bench.http_client import HttpClient

P50, P99, WHOLE = "first token p50", "first token p99", "complete p50"


@asynccontextmanager
async def contest(rig: Rig, size: Mapping[str, Any]) -> AsyncIterator[Mapping[str, Play]]:
    """Requests answers at a low, steady rate; the model answers immediately."""
    model, url = await rig.model()
    port = int(url.rpartition(":")[2].partition("/")[0])
    gateways = {
        OURS: await holdline(rig, url),
        MODEL: Gateway(port, {"model": model}, chat=True),
        AGENTIC: await agentic_api(rig, url),
    }
    yield {who: partial(_paced, one, size) for who, one in gateways.items() if one is not None}


async def _paced(gateway: Gateway, size: Mapping[str, Any]) -> Sample:
    request, rate = gateway.request(size["tokens"]), size["rate"]
    first: list[float] = []
    whole: list[float] = []

    async def one(client: HttpClient, due: float) -> None:
        await asyncio.sleep(due - time.monotonic())
        began = time.monotonic()
        reply = await client.ask(request, gateway.marker)
        gateway.check(reply)
        first.append(reply.first - began)
        whole.append(reply.whole - began)

    async with connected(gateway.port, rate * size["seconds"]) as clients:
        began = time.monotonic()
        async with asyncio.timeout(ANSWER_SECONDS):
            await asyncio.gather(
                *(one(client, began + number / rate) for number, client in enumerate(clients))
            )
    cuts = quantiles(first, n=100)
    return {
        P50: cuts[49] * 1e3,
        P99: cuts[98] * 1e3,
        WHOLE: quantiles(whole, n=100)[49] * 1e3,
    }


MEASURE = Measure(
    name="P15",
    title="Time to the first token at a low rate, and the model answers immediately",
    sizes={
        "full": {"rate": 20, "seconds": 3, "tokens": 50},
        "quick": {"rate": 20, "seconds": 3, "tokens": 50},
    },
    units={P50: "ms", P99: "ms", WHOLE: "ms"},
    bounds=(
        Bound(
            "p50 of the time to the first token minus the model's own p50, ms",
            lambda one: one[OURS][P50] - one[MODEL][P50],
            unit="ms",
            most=3,
        ),
        Bound(
            "p99 of the time to the first token minus the model's own p50, ms",
            lambda one: one[OURS][P99] - one[MODEL][P50],
            unit="ms",
            most=6,
        ),
    ),
    open=contest,
)
