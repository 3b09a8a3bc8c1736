"""Tests Codex CLI while the worker, the server and Redis are killed during its task."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

import aiohttp
import pytest

from tests.paths.redis_faults import store as stores
from tests.paths.redis_faults.store import NAMES, Store
from tests.programs.codex_cli import SECONDS, Codex, Transport, codex, said
from tests.programs.codex_model import Api, CodexModel
from tests.programs.codex_task import ANSWER, STEPS, check_files
from tests.system import wait_until

Victim = Literal["worker", "server", "Redis"]


@pytest.mark.heavy
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("api", "transport", "victims"),
    [
        ("chat", "http", ("worker", "server", "Redis")),
        ("chat", "websocket", ("server", "Redis", "worker")),
        ("responses", "http", ("Redis", "worker", "server")),
        ("responses", "websocket", ("worker", "server", "Redis")),
    ],
)
async def test_codex_survives_the_deaths_of_a_worker_a_server_and_redis(
    tmp_path: Path, api: Api, transport: Transport, victims: tuple[Victim, ...]
) -> None:
    async with (
        CodexModel(api, STEPS, stalls=range(len(victims))) as model,
        stores.running() as store,
        codex(tmp_path, model, store.url, transport) as cli,
    ):
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(cli.run("make a file"))
            for step, victim in enumerate(victims):
                async with asyncio.timeout(SECONDS):
                    await model.stalled[step].wait()
                    await _wait_for_part_of_call(cli, store)
                await _kill(victim, cli, store, model)
                model.resumed[step].set()
        assert ANSWER == said(running.result())
        check_files(cli.work)
        # The model was called once more after the death of the worker, and once more after the
        # death of the server, because Codex sends the request again without an idempotency key.
        assert len(STEPS) + 2 == len(model.bodies)


async def _wait_for_part_of_call(cli: Codex, store: Store) -> None:
    """Waits until the log of the running response contains a part of a call's arguments."""

    async def running() -> str | None:
        ids = await store.call("ZRANGE", NAMES.leases, 0, -1)
        return ids[0].decode() if len(ids) == 1 else None

    url = f"{cli.server.url}/v1/responses/{await wait_until(running)}"
    async with aiohttp.ClientSession() as http, http.get(url, params={"stream": "true"}) as stream:
        async for line in stream.content:
            if b".delta" in line:
                return
    raise AssertionError("the response ended without a delta")


async def _kill(victim: Victim, cli: Codex, store: Store, model: CodexModel) -> None:
    """Kills a process, and starts it again."""
    if victim == "worker":
        await cli.worker.kill()
        cli.worker = await cli.system.worker(model.url)
    elif victim == "server":
        await cli.server.kill()
        cli.server = await cli.system.server(HOLDLINE_PORT=cli.server.url.rpartition(":")[2])
    else:
        await store.kill()
        await asyncio.sleep(1.5)  # longer than a lease
        await store.start()
