"""Tests that the state of the service follows the lives of real worker processes."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from jobs.names import partition_of
from tests.fake_model import FakeModel
from tests.paths.topologies.several import cluster
from tests.system import Server, System, wait_until

pytestmark = pytest.mark.timeout(180)

PARTITIONS = 6
SECONDS = 40.0


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

        await wait_until(lambda: shows(200, 3), SECONDS)
        parent.signal(signal.SIGTERM)
        assert 0 == await parent.wait(SECONDS)
        # Workers that end in order remove their records at once. The answer is shared for a second.
        await wait_until(lambda: shows(200, 1), SECONDS)
        await single.kill()
        await wait_until(lambda: shows(503, 0), SECONDS)

        async with http.get(f"{server.url}/readyz") as response:
            assert 200 == response.status


@pytest.mark.heavy
async def test_the_status_of_a_cluster_sums_its_partitions_and_lists_all_workers(
    tmp_path: Path,
) -> None:
    async with (
        cluster() as nodes,
        FakeModel() as model,
        System(nodes.url, tmp_path) as system,
        aiohttp.ClientSession() as http,
    ):
        system.environ["HOLDLINE_PARTITIONS"] = str(PARTITIONS)
        server = await system.server()
        ids = []
        for _ in range(12):
            body = {"input": "tokens=500 pace=0.05", "background": True}
            async with http.post(f"{server.url}/v1/responses", json=body) as response:
                ids.append((await response.json())["id"])

        async def status(*arguments: str) -> dict[str, Any]:
            found: dict[str, Any] = json.loads(await system.run("status", "--json", *arguments))
            return found

        found = await status()
        assert (12, 0) == (found["queue"]["total"]["waiting"], len(found["workers"]))
        submitted = Counter(map(partition_of, ids))
        assert [submitted[number] for number in range(PARTITIONS)] == [
            one["waiting"] for one in found["queue"]["partitions"]
        ]
        assert 3 == len({node["port"] for node in found["redis"]})

        await system.worker(model.url, HOLDLINE_PROCESSES="2", HOLDLINE_CONCURRENCY="4")

        async def all_run() -> dict[str, Any] | None:
            found = await status()
            told = sum(len(worker["responses"]) for worker in found["workers"])
            return found if found["queue"]["total"]["running"] == told == 8 else None

        found = await wait_until(all_run, SECONDS)

        assert 4 == found["queue"]["total"]["waiting"]
        assert 2 == len({worker["pid"] for worker in found["workers"]})
        running = found["workers"][0]["responses"][0]["response_id"]
        steps = (await status(running))["steps"]
        assert ["submitted", "queued", "claimed"] == [step["kind"] for step in steps][:3]
        assert found["workers"][0]["id"] == steps[2]["worker"]
