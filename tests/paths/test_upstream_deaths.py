"""Tests that dead workers cost no model call if another Holdline generates the answers."""

from __future__ import annotations

import hashlib
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from command.up.redis import embedded_redis_sync
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from tests.fake_model import FakeModel
from tests.paths.pauses import Reader, percentile
from tests.system import Process, Server, System, wait_until

MODELS = """
default = "m"
[models.m]
base_url = "{url}/v1"
api_key_env = "OPENAI_API_KEY"
api = "responses"
background = true
"""
# A hundred workers are killed in a single answer.
LONG = {"HOLDLINE_MODEL_TIMEOUT_SECONDS": "3000", "HOLDLINE_LEASE_SECONDS": "0.5"}


@dataclass
class Row:
    """Two Holdlines. The model of the front one (`system`) is the back one."""

    system: System
    front: Server
    back: Server
    back_redis: str
    model: FakeModel

    async def worker(self) -> Process:
        """Starts a worker of the front Holdline."""
        return await self.system.worker("")

    async def back_responses(self) -> list[str]:
        """Returns the statuses of all responses of the back Holdline."""
        async with Pipe(Redis(self.back_redis)) as pipe:
            keys = await pipe.call("KEYS", "holdline:*:job:*")
            return [(await pipe.call("HGET", key, "status")).decode() for key in keys]


@pytest.fixture
async def row(system: System, tmp_path: Path) -> AsyncIterator[Row]:
    (folder := tmp_path / "back").mkdir()
    with embedded_redis_sync() as url:
        async with FakeModel() as model, System(url, folder) as behind:
            behind.environ |= LONG
            back = await behind.server()
            await behind.worker(model.url)
            models = tmp_path / "models.toml"
            models.write_text(MODELS.format(url=back.url))
            system.environ |= LONG | {"HOLDLINE_MODELS": str(models), "HOLDLINE_MODEL": ""}
            front = await system.server()
            yield Row(system, front, back, url, model)


@pytest.mark.heavy
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    "number",
    [pytest.param(signal.SIGKILL, id="kill"), pytest.param(signal.SIGTERM, id="term")],
)
@pytest.mark.parametrize("deaths", [3, 100])
async def test_workers_that_die_in_one_answer_of_another_holdline_cost_no_call(
    row: Row, number: signal.Signals, deaths: int
) -> None:
    worker = await row.worker()
    pauses = []
    async with (
        aiohttp.ClientSession() as http,
        Reader(http, row.front, "mode=until pace=0.05") as reader,
    ):
        await wait_until(lambda: reader.text, 60)
        for _ in range(deaths):
            successor = await row.worker()
            began = time.monotonic()
            worker.signal(number)
            assert (0 if number is signal.SIGTERM else -number) == await worker.wait(60)
            await reader.grown()
            pauses.append(time.monotonic() - began)
            worker = successor
        (call,) = row.model.calls
        call.closing = True
        response = await reader.end()
    assert call.sent == reader.text
    assert hashlib.sha256(call.sent.encode()).hexdigest() == response["holdline"]["sha256"]
    assert 1 == response["holdline"]["attempts"]
    assert 1 == len(response["output"])
    assert 1 == len(row.model.calls)
    assert ["completed"] == await row.back_responses()
    print(
        f"{deaths} x {number.name}: until the next event {percentile(pauses, 50):.2f} s (p50), "
        f"{max(pauses):.2f} s (longest), {len(reader.events)} events"
    )


@pytest.mark.parametrize("how", ["cancel", pytest.param("delete", marks=pytest.mark.heavy)])
async def test_a_cancellation_or_deletion_reaches_the_other_holdline(row: Row, how: str) -> None:
    await row.worker()
    async with (
        aiohttp.ClientSession() as http,
        Reader(http, row.front, "mode=until") as reader,
    ):
        await wait_until(lambda: reader.text, 60)
        url = f"{row.front.url}/v1/responses/{reader.events[0]['response']['id']}"
        method, url = ("POST", f"{url}/cancel") if how == "cancel" else ("DELETE", url)
        async with http.request(method, url) as response:
            assert 200 == response.status

        async def ended() -> bool:
            return ["cancelled"] == await row.back_responses()

        await wait_until(ended)
    assert 1 == len(row.model.calls)
