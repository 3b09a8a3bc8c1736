"""P7: the tokens per CPU second of a worker, compared with the SDK's typed stream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from bench.background import all_completed, in_background
from bench.figures import Bound, Measure, Play, Sample
from bench.processes import Cpu
from bench.rig import Rig

OURS, SDK, RATE = "holdline", "openai SDK, typed, read directly", "tokens per worker CPU second"


@asynccontextmanager
async def contest(rig: Rig, size: Mapping[str, Any]) -> AsyncIterator[Mapping[str, Play]]:
    """Sends the worker and the SDK the same immediate answers; the SDK gets fewer of them."""
    answers, tokens = size["answers"], size["tokens"]
    model, url = await rig.model()
    _, port = await rig.server()
    worker = await rig.worker(url)
    direct = await rig.python("sdk_typed", package="openai", OPENAI_BASE_URL=url)

    async def ours() -> Sample:
        cpu = Cpu(worker, rig.redis, model)
        await all_completed(rig, await in_background(port, answers, f"tokens={tokens}"))
        return _sample(cpu.taken(), answers * tokens, worker.name)

    async def read_directly() -> Sample:
        assert direct is not None  # noqa: S101 - without the peer, this play does not exist
        cpu = Cpu(direct, model)
        # The SDK is much slower than the worker, so fewer answers give the same precision.
        streams = max(answers // size["peer divisor"], 1)
        said = json.loads(await direct.ask(f"stream {streams} {tokens} 0"))
        return _sample(cpu.taken(), said["tokens"], direct.name)

    yield {OURS: ours} | ({SDK: read_directly} if direct else {})


def _sample(taken: Mapping[str, float], tokens: int, worker: str) -> Sample:
    sample = {RATE: tokens / taken[worker], "worker": taken[worker] / tokens * 1e6}
    if "redis" in taken:
        sample["redis"] = taken["redis"] / tokens * 1e6
    return sample | {"model": taken["model"] / tokens * 1e6}


MEASURE = Measure(
    name="P7",
    title="Worker: tokens of answers that the model sends at once, 100 answers in parallel",
    sizes={
        "full": {"answers": 200, "tokens": 500, "peer divisor": 4},
        "quick": {"answers": 40, "tokens": 500, "peer divisor": 4},
    },
    units={RATE: "", "worker": "µs per token", "redis": "µs per token", "model": "µs per token"},
    bounds=(
        Bound(
            "tokens per CPU second of a worker: Holdline divided by the SDK's typed stream",
            lambda r: r[OURS][RATE] / r[SDK][RATE],
            least=30,
        ),
    ),
    open=contest,
)
