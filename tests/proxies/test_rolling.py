"""Tests that no client receives a 502 while two servers behind a proxy restart in turn."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

import holdline_client
from tests.fake_model import FakeModel
from tests.proxies.fronted import PROXIES, run_proxy
from tests.system import Server, System

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = [pytest.mark.timeout(120), pytest.mark.heavy]
COMPLETE = "whole"
DELAY = {"HOLDLINE_SHUTDOWN_DELAY_SECONDS": "3"}  # the value given in the files in `deploy/`


class Load:
    """Clients of each kind, which send one request after another until `over` is set."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = f"{url}/v1/responses"
        self.http = http
        self.over = False
        self.results: Counter[str] = Counter()

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Starts five clients with plain requests, three with streams and two with sockets."""
        for ask in (*[self.plain] * 5, *[self.stream] * 3):
            tasks.create_task(self._repeat(ask))
        for _ in range(2):
            tasks.create_task(self._socket())

    async def _repeat(self, ask: Callable[[], Awaitable[str]]) -> None:
        while not self.over:
            result = await ask()
            self.results[result] += 1
            if result != COMPLETE:
                await asyncio.sleep(0.5)  # the SDKs also pause before a retry

    async def plain(self) -> str:
        body = {"input": "tokens=2 mode=slow pace=0.1", "model": "m"}
        async with self.http.post(self.url, json=body) as answer:
            return COMPLETE if answer.status == 200 else await refusal(answer)

    async def stream(self) -> str:
        """Sends a request and resumes its stream until the end."""
        body = {"input": "tokens=8 mode=slow pace=0.1", "model": "m", "stream": True}
        id_, last = "", -1
        while True:
            query = {"stream": "true", "starting_after": str(last)}
            asking = (
                self.http.get(f"{self.url}/{id_}", params=query)
                if id_
                else self.http.post(self.url, json=body)
            )
            try:
                async with asking as answer:
                    if answer.status != 200:
                        return await refusal(answer)
                    async for line in answer.content:
                        if not line.startswith(b"data: {"):
                            continue
                        event = json.loads(line[6:])
                        if event["type"] == "error":
                            assert "server_restarting" == event["error"]["code"]
                            continue
                        id_ = id_ or event["response"]["id"]
                        last += 1
                        assert last == event["sequence_number"]
                        if event["type"] == "response.completed":
                            return COMPLETE
            except aiohttp.ClientPayloadError:
                assert id_

    async def _socket(self) -> None:
        async with holdline_client.connect(self.url) as client:
            while not self.over:
                answer = client.ask("tokens=8 mode=slow pace=0.1")
                assert 8 == len("".join([piece async for piece in answer]).split())
                self.results[COMPLETE] += 1


async def refusal(answer: aiohttp.ClientResponse) -> str:
    said = await answer.text()
    found = re.search(r'"code":"(\w+)"', said)
    return f"{answer.status} {found[1] if found else said}".strip()


async def restart(system: System, server: Server) -> Server:
    server.signal(signal.SIGTERM)
    assert 0 == await server.wait(30)
    return await system.server(HOLDLINE_PORT=server.url.rpartition(":")[2], **DELAY)


@pytest.mark.parametrize("proxy", PROXIES)
async def test_a_rolling_restart_returns_no_502_and_loses_no_answer(
    system: System, tmp_path: Path, proxy: str
) -> None:
    async with FakeModel() as model:
        one, two, _ = await asyncio.gather(
            system.server(**DELAY), system.server(**DELAY), system.worker(model.url)
        )
        ports = [int(server.url.rpartition(":")[2]) for server in (one, two)]
        async with (
            run_proxy(proxy, ports[0], tmp_path, ports[1]) as url,
            aiohttp.ClientSession() as http,
        ):
            load = Load(url, http)
            async with asyncio.TaskGroup() as tasks:
                load.start(tasks)
                await asyncio.sleep(1)  # wait until the load has started
                for server in (one, two):
                    await restart(system, server)
                    await asyncio.sleep(2.5)  # Caddy checks the server's health every second
                load.over = True
        assert set(load.results) == {COMPLETE}, load.results
        assert load.results[COMPLETE] > 50
        # The model was called once for each prompt.
        assert load.results[COMPLETE] == len(model.calls)
