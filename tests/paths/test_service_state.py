"""Tests that the state of the service follows the lives of real worker processes."""

from __future__ import annotations

import signal

import aiohttp

from tests.fake_model import FakeModel
from tests.system import Server, System, wait_until


async def workers_of(http: aiohttp.ClientSession, server: Server) -> tuple[int, int]:
    """Returns the status of `/healthz/service`, and the number of workers that it shows."""
    async with http.get(f"{server.url}/healthz/service") as response:
        [model] = (await response.json())["models"]
        return response.status, model["workers"]


async def test_the_death_of_all_workers_shows_while_the_servers_stay_ready(system: System) -> None:
    async with FakeModel() as model, aiohttp.ClientSession() as http:
        server = await system.server()
        parent = await system.worker(model.url, HOLDLINE_PROCESSES="2")
        single = await system.worker(model.url)

        async def shows(*expected: int) -> bool:
            return expected == await workers_of(http, server)

        await wait_until(lambda: shows(200, 3))
        parent.signal(signal.SIGTERM)
        assert 0 == await parent.wait()
        # Workers that end in order remove their records at once. The answer is shared for a second.
        await wait_until(lambda: shows(200, 1), 10)
        await single.kill()
        await wait_until(lambda: shows(503, 0), 10)

        async with http.get(f"{server.url}/readyz") as response:
            assert 200 == response.status
