"""Tests `/healthz/service`, which reports whether each model has a live worker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.queue import Queue
from jobs.redis.pipe import Pipe
from jobs.worker_registry import WorkerRecord, WorkerRegistry, WorkerState
from server.app import SERVER
from tests.jobs.factories import SETTINGS, a_job, opening
from tests.jobs.proxy import Proxy
from tests.server.talk import Client
from tests.system import wait_until

Serve = Callable[..., Awaitable[Client]]

PATH = "/healthz/service"
MODELS = '[models.fast]\nbase_url = "http://a"\n[models.slow]\nbase_url = "http://b"\n'


@pytest.fixture
def models(tmp_path: Path) -> str:
    (tmp_path / "models.toml").write_text(MODELS)
    return str(tmp_path / "models.toml")


@pytest.fixture(autouse=True)
def _unshared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets each request read the state, so that a test need not wait for the next answer."""
    monkeypatch.setattr("server.http.service_health.SHARED_SECONDS", 0.0)


async def register(pipe: Pipe, worker: str = "w", **changed: Any) -> None:
    made: dict[str, Any] = {
        "host": "secret-host",
        "pid": 7,
        "version": "1.2",
        "age_ms": 5_000,
        "concurrency": 4,
        "models": (),
        "state": WorkerState.READY,
        "reason": "",
        "jobs": 0,
        "running": (),
    }
    registry = WorkerRegistry(pipe, SETTINGS.lease_ms)
    assert await registry.register(worker, WorkerRecord(**made | changed))


async def health(client: Client) -> tuple[int, dict[str, Any]]:
    async with client.get(PATH) as response:
        return response.status, await response.json()


async def states(client: Client) -> dict[str, tuple[bool, str | None, int]]:
    found = (await health(client))[1]["models"]
    return {one["model"]: (one["ready"], one["reason"], one["workers"]) for one in found}


async def test_a_service_without_workers_is_not_ready_although_its_servers_are(
    serve: Serve, pipe: Pipe
) -> None:
    client = await serve()
    status, found = await health(client)
    assert (503, "not ready", None) == (status, found["status"], found["reason"])
    assert {"*": (False, "no_workers", 0)} == await states(client)
    async with client.get("/readyz") as response:
        assert 200 == response.status

    await register(pipe)

    status, found = await health(client)
    assert (200, "ready") == (status, found["status"])
    assert {"*": (True, None, 1)} == await states(client)


async def test_each_model_of_the_models_file_needs_a_live_worker(
    serve: Serve, pipe: Pipe, models: str
) -> None:
    client = await serve(models=models, model="fast")
    await register(pipe, "a", models=("fast", "other"))
    await register(pipe, "b", models=("fast",))

    assert 503 == (await health(client))[0]
    assert {"fast": (True, None, 2), "slow": (False, "no_workers", 0)} == await states(client)

    await register(pipe, "c", models=("slow",))
    assert 200 == (await health(client))[0]


async def test_a_draining_worker_serves_no_model(serve: Serve, pipe: Pipe) -> None:
    client = await serve()
    await register(pipe, state=WorkerState.DRAINING)

    assert 503 == (await health(client))[0]
    assert {"*": (False, "workers_draining", 0)} == await states(client)


async def test_paused_workers_and_models_are_shown_but_live(
    serve: Serve, pipe: Pipe, models: str
) -> None:
    client = await serve(models=models, model="fast")
    await register(pipe, "a", models=("fast",))
    await register(pipe, "b", models=("slow",), state=WorkerState.PAUSED, reason="redis_full")
    await Queue(pipe, SETTINGS).pause("fast", 30)

    assert 200 == (await health(client))[0]
    assert {
        "fast": (True, "model_paused", 1),
        "slow": (True, "workers_paused", 1),
    } == await states(client)


async def test_the_waiting_jobs_of_a_model_are_shown_without_tenants_and_ids(
    serve: Serve, pipe: Pipe, models: str
) -> None:
    client = await serve(models=models, model="fast")
    await register(pipe, "worker-id")
    queue = Queue(pipe, SETTINGS)
    for queue_name in ("d:fast", "p:fast", "d:slow"):
        job = a_job("acme/anna")
        await queue.submit(job, opening(job), queue_name=queue_name)

    found = (await health(client))[1]

    assert [("fast", 2), ("slow", 1)] == [(one["model"], one["waiting"]) for one in found["models"]]
    assert all(0 <= one["oldest_seconds"] < 60 for one in found["models"])
    for secret in ("acme", "anna", "resp_", "worker-id", "secret-host"):
        assert secret not in str(found)


async def test_an_outage_of_redis_is_reported_within_seconds(
    serve: Serve, redis_url: str, pipe: Pipe
) -> None:
    await register(pipe)
    async with Proxy(redis_url) as proxy:
        client = await serve(url=proxy.url)
        assert 200 == (await health(client))[0]
        proxy.stop_forwarding()

        status, found = await asyncio.wait_for(health(client), 10)

        assert (503, "redis_unavailable", []) == (status, found["reason"], found["models"])
        proxy.forward_again()
        await wait_until(lambda: client.app[SERVER].pipe.connected)
        await client.close()


async def test_requests_at_once_share_one_read(
    serve: Serve, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.http.service_health.SHARED_SECONDS", 60.0)
    client = await serve()
    await pipe.call("CONFIG", "RESETSTAT")

    await asyncio.gather(*(health(client) for _ in range(20)))

    assert 1 == await _reads(pipe)


async def _reads(pipe: Pipe) -> int:
    """Returns how often an overview was read."""
    lines = (await pipe.call("INFO", "commandstats")).decode().splitlines()
    [line] = [line for line in lines if line.startswith("cmdstat_smembers:")]
    return int(line.split("calls=")[1].split(",")[0])
