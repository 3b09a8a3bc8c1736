"""Tests that a rolling restart of all workers costs no tokens."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

import aiohttp
import pytest

from tests.fake_model import FakeModel
from tests.paths.pauses import Reader, percentile
from tests.system import System, wait_until

MODELS = """
default = "m"
[models.m]
base_url = "{url}"
api = "responses"
background = true
"""
PACE = 0.5


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("workers", "answers"), [(2, 10), pytest.param(10, 200, marks=pytest.mark.heavy)]
)
async def test_a_rolling_restart_of_the_workers_repeats_no_token(
    system: System, tmp_path: Path, workers: int, answers: int
) -> None:
    async with FakeModel() as model, contextlib.AsyncExitStack() as stack:
        models = tmp_path / "models.toml"
        models.write_text(MODELS.format(url=model.url))
        system.environ |= {"HOLDLINE_MODELS": str(models), "HOLDLINE_MODEL": ""}
        server, running = await asyncio.gather(
            system.server(), asyncio.gather(*(system.worker("") for _ in range(workers)))
        )
        http = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        )
        readers = [
            await stack.enter_async_context(
                Reader(http, server, f"mode=until pace={PACE} number={number}")
            )
            for number in range(answers)
        ]
        await wait_until(lambda: all(reader.text for reader in readers), 120)
        for worker in running:
            await system.worker("")
            worker.signal(signal.SIGTERM)
            assert 0 == await worker.wait(60)
        await asyncio.gather(*(reader.grown(120) for reader in readers))
        for call in model.calls:
            call.closing = True
        responses = [await reader.end() for reader in readers]
        assert answers == len(model.calls)
        sent = {call.prompt: call.sent for call in model.calls}
        for reader, response in zip(readers, responses, strict=True):
            assert sent[reader.prompt] == reader.text
            assert 1 == response["holdline"]["attempts"]
        pauses = [reader.longest_pause - PACE for reader in readers]
        print(
            f"{workers} workers, {answers} answers: longest pause of an answer beyond the pace "
            f"{percentile(pauses, 50):.2f} s (p50), {percentile(pauses, 99):.2f} s (p99), "
            f"{max(pauses):.2f} s (longest)"
        )
