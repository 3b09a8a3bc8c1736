"""Tests the health and the metrics of real servers and workers, and of their child processes."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from command.up.redis import embedded_redis
from server import metrics as of_server
from server import service_metrics as of_service
from tests.fake_model import FakeModel
from tests.system import Process, System, free_port, run_module, wait_until
from worker import metrics as of_worker

pytestmark = pytest.mark.timeout(120)

Samples = dict[str, float]


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel() as model:
        yield model


async def get(url: str) -> tuple[int, str]:
    timeout = aiohttp.ClientTimeout(total=20)
    # Each request uses a new connection, so it reaches any of the processes that share the port.
    async with (
        aiohttp.ClientSession(timeout=timeout) as http,
        http.get(url, headers={"Connection": "close"}) as response,
    ):
        return response.status, await response.text()


async def scrape(url: str) -> Samples:
    """Returns the samples by their names and label values, such as `holdline_x_total a b`."""
    status, page = await get(f"{url}/metrics")
    assert 200 == status
    return {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


async def ask(url: str, prompt: str = "tokens=3") -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}/v1/responses", json={"input": prompt}) as response,
    ):
        assert 200 == response.status, await response.text()
        assert "completed" == (await response.json())["status"]


def children(process: Process) -> list[int]:
    pid = process.popen.pid
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(child) for child in found.split()]


async def test_a_worker_serves_its_health_and_metrics(system: System, model: FakeModel) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}"
    server = await system.server()
    worker = await system.worker(model.url, HOLDLINE_WORKER_PORT=str(port))
    assert (200, '{"status": "ok"}') == await get(f"{url}/livez")
    status, text = await get(f"{url}/readyz")
    expected = '{"status": "ready", "redis": true, "state": "ready", "reason": ""}'
    assert (200, expected) == (status, text)
    await ask(server.url)
    found = await scrape(url)
    assert 1 == found["holdline_responses_total simulation completed"]
    assert 1 == found["holdline_ready_processes"] == found["holdline_redis_connected_processes"]
    assert 100 == found["holdline_concurrency_jobs"]
    assert found["holdline_redis_round_trip_seconds_count"] > 10
    assert 404 == (await get(f"{url}/"))[0]

    async def measured() -> bool:
        both = [await scrape(server.url), await scrape(url)]
        names = ("holdline_event_loop_lag_seconds", "holdline_notification_lag_seconds")
        return all(found[f"{name}_count"] for found in both for name in names)

    await wait_until(measured)
    held = model.script = {"mode": "hang"}
    assert held
    async with aiohttp.ClientSession() as http:
        body = {"input": "x", "background": True}
        async with http.post(f"{server.url}/v1/responses", json=body) as response:
            assert 200 == response.status
        await wait_until(lambda: model.open_calls)
        worker.signal(signal.SIGTERM)
        await wait_until(lambda: "claiming no more jobs" in worker.output)
        status, text = await get(f"{url}/readyz")
        assert (503, True) == (status, '"state": "draining"' in text)
        assert 1 == (await scrape(url))["holdline_draining_processes"]
        assert 1 == (await scrape(url))["holdline_running_jobs"]
        worker.signal(signal.SIGTERM)
        assert 0 == await worker.wait()


async def test_a_worker_is_alive_but_not_ready_without_redis(
    tmp_path: Path, model: FakeModel
) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}"
    async with embedded_redis() as redis_url, System(redis_url, tmp_path) as system:
        await system.worker(model.url, HOLDLINE_WORKER_PORT=str(port))
        assert 200 == (await get(f"{url}/readyz"))[0]
    async with System(redis_url, tmp_path) as system:  # this Redis has stopped
        worker = system._start(
            Process, "worker", {"OPENAI_BASE_URL": model.url, "HOLDLINE_WORKER_PORT": str(port)}
        )

        async def unready() -> bool:
            try:
                status, text = await get(f"{url}/readyz")
            except aiohttp.ClientConnectionError:
                assert worker.popen.poll() is None, worker.output
                return False
            return status == 503 and '"redis": false' in text

        await wait_until(unready, 60)
        assert 200 == (await get(f"{url}/livez"))[0]
        assert 0 == (await scrape(url))["holdline_ready_processes"]


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_a_worker_reports_a_port_that_is_in_use(
    system: System, model: FakeModel, processes: str
) -> None:
    server = await system.server()
    port = server.url.rpartition(":")[2]
    environ = {"REDIS_URL": system.redis_url, "OPENAI_BASE_URL": model.url}
    said = run_module("worker", "--processes", processes, HOLDLINE_WORKER_PORT=port, **environ)
    assert 1 == said.returncode
    assert "HOLDLINE_WORKER_PORT" in said.stderr.splitlines()[-1]


async def test_each_exposed_metric_is_declared(system: System, model: FakeModel) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}"
    server = await system.server()
    await system.worker(model.url, HOLDLINE_WORKER_PORT=str(port))
    # No key ends, and there is no identity provider.
    absent = (of_service.KEY_END, of_service.JWKS_AGE)
    service = [metric for metric in of_service.ALL if metric not in absent]
    for page, declared in ((server.url, [*of_server.ALL, *service]), (url, of_worker.ALL)):
        _, text = await get(f"{page}/metrics")
        types = [line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE")]
        expected = [[one.name, one.kind] for one in (*declared, *of_server.COMMON)]
        assert sorted(expected) == sorted(types)


@pytest.mark.heavy
async def test_a_scrape_of_several_processes_is_complete_and_counters_do_not_fall(
    system: System, model: FakeModel
) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}"
    server = await system.server(HOLDLINE_PROCESSES="2")
    worker = await system.worker(model.url, HOLDLINE_PROCESSES="2", HOLDLINE_WORKER_PORT=str(port))
    await wait_until(lambda: worker.output.count("worker ready") == 2, 60)
    await wait_until(lambda: server.output.count("server ready") == 2, 60)
    for _ in range(20):
        await ask(server.url)

    async def complete() -> bool:
        of_server, of_worker = await scrape(server.url), await scrape(url)
        submitted = of_server.get("holdline_submitted_total true")
        ended = of_worker.get("holdline_responses_total simulation completed")
        both = of_server["holdline_processes"], of_worker["holdline_processes"]
        return (submitted, ended, both) == (20, 20, (2, 2))

    await wait_until(complete, 30)
    seen: list[Samples] = [{}, {}]

    async def check() -> None:
        """Scrapes both programs, and fails if a counter is lower than in the last scrape."""
        for index, page in enumerate((server.url, url)):
            found = await scrape(page)
            before = seen[index]
            fallen = [
                name
                for name, value in before.items()
                if name.partition(" ")[0].endswith(("_total", "_count", "_bucket"))
                and found.get(name, 0) < value
            ]
            assert [] == fallen
            seen[index] = found

    for process in (server, worker):
        await check()
        os.kill(children(process)[0], signal.SIGKILL)

        async def restarted(process: Process = process) -> bool:
            try:
                await check()
            except aiohttp.ClientConnectionError:  # the killed process had the connection
                return False
            return process.output.count(f"{process.name} ready") == 3

        await wait_until(restarted, 60)
        await check()
    await ask(server.url)

    async def counted() -> bool:
        await check()
        both = [found["holdline_processes"] for found in seen]
        return seen[0]["holdline_submitted_total true"] == 21 and [2, 2] == both

    await wait_until(counted, 30)


async def test_a_killed_parent_leaves_no_files(system: System, tmp_path: Path) -> None:
    system.environ["TMPDIR"] = str(tmp_path)
    server = await system.server(HOLDLINE_PROCESSES="2")
    await wait_until(lambda: server.output.count("server ready") == 2, 60)
    [folder] = tmp_path.iterdir()
    await server.kill()
    await wait_until(lambda: not folder.exists(), 30)
