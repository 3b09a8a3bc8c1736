"""P6: the latency of a token from the model to the client, compared with a direct stream."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from statistics import quantiles
from typing import Any, Final

from bench.client import Client, dismiss
from bench.client_pool import ClientPool, ask_all
from bench.figures import Bound, Measure, Play, Sample
from bench.processes import Cpu, Process
from bench.rig import Rig

# The tokens of the first second and the last 0.2 s of a run are excluded, because the load is not
# steady while streams start or end.
BEGIN_SECONDS: Final = 1.0
END_SECONDS: Final = 0.2
LOADS: Final = {"1 x 50": (1, 50), "100 x 50": (100, 50), "500 x 10": (500, 10)}
TEXT: Final = b'"delta":"'


@dataclass(slots=True)
class Listening(ClientPool):
    """A pool that records each token's age on arrival; a token's text is the time of its write."""

    ages: list[tuple[int, float]] = field(default_factory=list)

    def piece(self, client: Client, payload: bytes) -> None:  # noqa: ARG002 - the base class has this parameter
        """Records the age of each token in a text delta."""
        now = time.monotonic_ns()
        text = payload.partition(TEXT)[2].partition(b'"')[0]
        self.ages += [(int(token), (now - int(token)) / 1e6) for token in text.split()]


@asynccontextmanager
async def contest(rig: Rig, size: Mapping[str, Any]) -> AsyncIterator[Mapping[str, Play]]:
    """Measures each load through Holdline, and with the SDK reading directly from the model."""
    model, url = await rig.model()
    server, port = await rig.server()
    worker = await rig.worker(url, HOLDLINE_CONCURRENCY="500")
    direct = await rig.python("sdk_typed", package="openai", OPENAI_BASE_URL=url)
    plays: dict[str, Play] = {}
    for name, (streams, rate) in LOADS.items():
        tokens = int(size["seconds"] * rate)
        load = (streams, tokens, 1 / rate)
        plays[f"holdline, {name}"] = partial(_ours, rig, port, (server, worker, model), load)
        # The SDK is saturated at 100 streams, so a run with 500 streams would show nothing new.
        if direct and streams <= 100:
            plays[f"SDK read directly, {name}"] = partial(_directly, direct, model, load)
    yield plays


async def _ours(
    rig: Rig,
    port: int,
    parts: tuple[Process, ...],
    load: tuple[int, int, float],
) -> Sample:
    streams, tokens, pace = load
    listening = Listening()
    await listening.connect(port, range(streams))
    cpu = Cpu(rig.redis, *parts)
    await ask_all(listening, f"tokens={tokens} pace={pace}")
    taken = cpu.taken()
    await dismiss(listening.clients)
    said = streams * tokens
    server, worker, model = (taken[process.name] / said * 1e6 for process in parts)
    return latencies(listening.ages) | {
        "worker": worker,
        "redis": taken["redis"] / said * 1e6,
        "server": server,
        "model": model,
        "harness": taken["self"] / said * 1e6,
    }


async def _directly(direct: Process, model: Process, load: tuple[int, int, float]) -> Sample:
    streams, tokens, pace = load
    cpu = Cpu(direct, model)
    said = json.loads(await direct.ask(f"stream {streams} {tokens} {pace}"))
    taken = cpu.taken()
    return latencies(said["ages"]) | {
        "worker": taken[direct.name] / said["tokens"] * 1e6,
        "model": taken["model"] / said["tokens"] * 1e6,
    }


def latencies(ages: list[Any]) -> dict[str, float]:
    """Returns p50 and p99 of the latency, in ms, without the beginning and the end of the run."""
    times = [written for written, _ in ages]
    begin, end = min(times) + BEGIN_SECONDS * 1e9, max(times) - END_SECONDS * 1e9
    cuts = quantiles((age for written, age in ages if begin < written < end), n=100)
    return {"p50": cuts[49], "p99": cuts[98]}


def _most(load: str, cut: str, most: float) -> Bound:
    return Bound(
        f"{cut} of the token latency at {load} tokens per second, ms",
        lambda one: one[f"holdline, {load}"][cut],
        unit="ms",
        most=most,
    )


MEASURE = Measure(
    name="P6",
    title="Token latency from the model's write to the client's socket, "
    "for streams x tokens per second",
    sizes={"full": {"seconds": 3}, "quick": {"seconds": 2}},
    units={
        "p50": "ms",
        "p99": "ms",
        **dict.fromkeys(("worker", "redis", "server", "model", "harness"), "µs per token"),
    },
    bounds=(
        _most("1 x 50", "p50", 1.2),
        _most("100 x 50", "p99", 5),
        Bound(
            "p99 of the token latency at 100 x 50 tokens per second: "
            "the SDK read directly, divided by Holdline",
            lambda r: r["SDK read directly, 100 x 50"]["p99"] / r["holdline, 100 x 50"]["p99"],
            least=20,
        ),
        _most("500 x 10", "p99", 15),
    ),
    open=contest,
    warms_up=False,
)
