"""Attacks on the console: stalled sockets, revoked keys, and an audit log that fails."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from jobs.names import Partition
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from jobs.worker_registry import WorkerRecord, WorkerRegistry, WorkerState
from server.console.hub import MAX_CONSOLES
from tests.attacks.raw import Raw, frame
from tests.server.auth_helpers import bearer
from tests.system import EXTENSIONS, Server, System, wait_until

# The server processes start on shared cores.
pytestmark = pytest.mark.timeout(180)
PING_SECONDS = 1
# A state is due about twice a second. The rest is for a busy machine.
MAX_GAP_SECONDS = 3.0
WORDS = "the-words-of-anna"
# The command that revokes the key runs within this time, and the server reads the key again.
REVOKED_SECONDS = 30.0
OPEN = frame(json.dumps({"type": "holdline:console"}).encode())


@pytest.fixture
async def pipe(system: System) -> AsyncIterator[Pipe]:
    async with Pipe(Redis(system.redis_url)) as pipe:
        yield pipe


async def fill(pipe: Pipe, workers: int = 300) -> None:
    """Registers workers, so that a state has about 100 kB."""
    registry = WorkerRegistry(pipe, 120_000)
    models = tuple(f"model-{number}-with-a-long-name" for number in range(8))
    for number in range(workers):
        state = WorkerState.READY
        one = WorkerRecord(f"gpu-{number}", 1, "1", 60_000, 10, models, state, "", 0, ())
        await registry.register(f"{number:016}", one)


async def states(server: Server, seconds: float) -> list[float]:
    """Opens a console for some seconds, and returns the times at which it received a state."""
    times: list[float] = []
    until = time.monotonic() + seconds
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{server.url}/v1/responses", protocols=EXTENSIONS) as ws,
    ):
        await ws.send_json({"type": "holdline:console"})
        while time.monotonic() < until:
            message = await ws.receive_json(timeout=10)
            if message["type"] == "holdline:state":
                times.append(time.monotonic())
            elif message["type"] == "error":
                return []
    return times


def rss(server: Server) -> int:
    status = Path(f"/proc/{server.popen.pid}/status").read_text()
    return 1024 * int(status.partition("VmRSS:")[2].split()[0])


async def test_consoles_that_never_read_delay_nobody_and_lose_their_places(
    system: System, pipe: Pipe
) -> None:
    await fill(pipe)
    server = await system.server(HOLDLINE_PING_SECONDS=str(PING_SECONDS))
    assert await states(server, 2.0)
    before = rss(server)
    async with AsyncExitStack() as stack:
        for _ in range(MAX_CONSOLES - 1):
            raw = await stack.enter_async_context(Raw(server.url))
            await raw.upgrade()
            await raw.send(OPEN)
        times = await states(server, 6.0)
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert max(gaps) < MAX_GAP_SECONDS, "the stalled consoles delay the others"
        # A stalled console holds at most the states of its socket's buffers.
        assert rss(server) - before < 64 * 1024 * 1024
        assert server.popen.poll() is None

        # The peers answer no pings, so the server closes their sockets, and their places are free.
        async def left() -> bool:
            return await server.metric("holdline_sockets") == 0

        await wait_until(left, 60)
    assert await states(server, 2.0)
    assert "Traceback" not in server.output


async def test_a_revoked_key_closes_an_open_console(system: System) -> None:
    system.environ["HOLDLINE_API_KEYS"] = "redis"
    server = await system.server()
    printed = await system.run("keys", "create", "ops", "--scopes", "operator")
    [key] = [word for word in printed.split() if word.startswith("hl_")]
    async with (
        aiohttp.ClientSession(headers=bearer(key)) as http,
        http.ws_connect(f"{server.url}/v1/responses", protocols=EXTENSIONS) as ws,
    ):
        await ws.send_json({"type": "holdline:console"})
        while (await ws.receive_json(timeout=10))["type"] != "holdline:state":
            pass
        # The client reads meanwhile, because the server does not wait for one that does not.
        revoking = asyncio.create_task(system.run("keys", "revoke", key.split("_")[1]))
        async with asyncio.timeout(REVOKED_SECONDS):
            async for message in ws:
                assert message.type is aiohttp.WSMsgType.TEXT
        assert 4401 == ws.close_code
        await revoking
        async with http.get(f"{server.url}/v1/console") as answer:
            assert 401 == answer.status


async def test_each_view_is_recorded_and_without_the_record_nothing_is_shown(
    system: System, pipe: Pipe
) -> None:
    system.environ["HOLDLINE_API_KEYS"] = "redis"
    server = await system.server()
    keys = {}
    for tenant, scopes in (("acme", "create,read"), ("ops", "operator,contents")):
        printed = await system.run("keys", "create", tenant, "--scopes", scopes)
        [keys[tenant]] = [word for word in printed.split() if word.startswith("hl_")]
    async with aiohttp.ClientSession(server.url) as http:
        body = {"input": WORDS, "background": True}
        async with http.post("/v1/responses", json=body, headers=bearer(keys["acme"])) as answer:
            id_ = (await answer.json())["id"]

        async def look() -> tuple[int, str]:
            path = f"/v1/console/responses/{id_}/contents"
            async with http.get(path, headers=bearer(keys["ops"])) as answer:
                return answer.status, await answer.text()

        for status, text in await asyncio.gather(*(look() for _ in range(5))):
            assert (200, True) == (status, WORDS in text)
        listed = await system.run("audit", "--target", id_, "--json")
        views: list[dict[str, Any]] = [json.loads(line) for line in listed.splitlines()]
        operator = f"key {keys['ops'].split('_')[1]}"
        assert [(operator, "console contents", "done")] * 5 == [
            (one["operator"], one["command"], one["result"]) for one in views
        ]

        audit = Partition(0).audit
        await pipe.call("DEL", audit)
        await pipe.call("SET", audit, "no stream", "PX", 60_000)
        status, text = await look()
        assert 503 == status
        assert WORDS not in text
        assert 5 == server.output.count("contents viewed")
        await pipe.call("DEL", audit)
        assert 200 == (await look())[0]
