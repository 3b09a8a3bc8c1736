"""A job leaves nothing behind: no cycle keeps its prompt until the garbage collector runs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from worker.execute import Stop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.worker.conftest import MakeHarness
    from tests.worker.harness import Harness

JOBS = 10
OURS = ("jobs.", "worker.")


class Collected:
    """What the collector found, by type."""

    def __init__(self) -> None:
        self.types: Counter[str] = Counter()

    @property
    def ours(self) -> dict[str, int]:
        """Only our own types, and what could be a prompt."""
        return {
            name: count
            for name, count in self.types.items()
            if name.startswith(OURS) or name in ("builtins.str", "builtins.bytes")
        }


@contextlib.contextmanager
def collected() -> Iterator[Collected]:
    """Disables the garbage collector inside the block, then records the types that it finds."""
    found = Collected()
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found.types.update(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def executed(harness: Harness, prompt: str) -> None:
    for _ in range(JOBS):
        await harness.submit(prompt)
        await harness.execution(await harness.claim()).run()


@pytest.mark.parametrize("prompt", ["tokens=20", "400", "500", "rst", "eof", "badjson", "call"])
async def test_a_job_leaves_nothing_for_the_collector(
    make_harness: MakeHarness, prompt: str
) -> None:
    async with make_harness(HOLDLINE_MAX_ATTEMPTS="1") as harness:
        await executed(harness, prompt)  # what is made once
        with collected() as found:
            await executed(harness, prompt)
    assert {} == found.ours


@pytest.mark.parametrize("reason", Stop)
async def test_a_stopped_job_leaves_nothing_for_the_collector(
    make_harness: MakeHarness, reason: Stop
) -> None:
    async def stopped(harness: Harness) -> None:
        await harness.submit("hang at=5")
        execution = harness.execution(await harness.claim())
        running = asyncio.create_task(execution.run())
        await harness.until_text(execution.grant.response_id)
        execution.stop(reason)
        await running

    async with make_harness() as harness:
        await stopped(harness)
        with collected() as found:
            for _ in range(3):
                await stopped(harness)
    assert {} == found.ours
