"""P11: the memory of a finished response in Redis, compared with the size of its text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from bench.background import all_completed, in_background
from bench.figures import Bound, Measure, Play, Sample
from bench.rig import Rig
from jobs.log.codec import decode_event
from jobs.log.events import output_text
from jobs.log.log import read_all
from jobs.names import Partition

ALLOWANCE: Final = 1_536
# The maximum wait for the log's compaction, which normally takes place 0.1 s after the last event.
SEALED_SECONDS: Final = 5.0
PACES: Final = {"one delta per token": 0.002, "at once": 0.0}


@asynccontextmanager
async def contest(rig: Rig, size: Mapping[str, Any]) -> AsyncIterator[Mapping[str, Play]]:
    """Stores the same answer twice: with one delta per token, and with one delta for all tokens."""
    _, url = await rig.model()
    _, port = await rig.server()
    await rig.worker(url)
    yield {
        f"{tokens} tokens, {how}": partial(_play, rig, port, f"tokens={tokens} pace={pace}")
        for tokens in size["tokens"]
        for how, pace in PACES.items()
    }


async def _play(rig: Rig, port: int, prompt: str) -> Sample:
    ids = await in_background(port, 1, prompt)
    await all_completed(rig, ids)
    names, id_, call = Partition(0), ids[0], rig.control.call
    log, job = names.log(id_), names.job(id_)
    async with asyncio.timeout(SEALED_SECONDS):
        while await call("EXISTS", log):  # noqa: ASYNC110 - another process compacts the log
            await asyncio.sleep(0.01)
    entries = (await read_all(rig.control, id_)).entries
    last = decode_event(entries[-1])
    text = len(output_text(last["response"]["output"]).encode())
    if text != last["response"]["holdline"]["bytes"]:
        raise ValueError("the stored text is incomplete")
    taken = await call("MEMORY", "USAGE", job, "SAMPLES", 0)
    return {
        "redis": taken,
        "text": text,
        "entries": len(entries),
        "times the text": (taken - ALLOWANCE) / text,
    }


def _bound(who: str) -> Bound:
    text = f"{who}: memory in Redis minus 1.5 KB, divided by the size of the text"
    return Bound(text, lambda one: one[who]["times the text"], most=1.5)


MEASURE = Measure(
    name="P11",
    title="Memory of a finished answer: MEMORY USAGE of its job, which then contains the log",
    sizes={"full": {"tokens": (100, 500)}, "quick": {"tokens": (100, 500)}},
    units={"redis": "bytes", "text": "bytes", "entries": "", "times the text": ""},
    bounds=tuple(_bound(f"500 tokens, {how}") for how in PACES),
    open=contest,
    warms_up=False,
)
