"""Tests the metrics of the service, which any server reads from Redis."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from command.up.redis import embedded_redis
from jobs.queue import Queue
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from jobs.worker_registry import WorkerRecord, WorkerRegistry, WorkerState
from server import service_metrics
from server.service_metrics import ALL
from tests.jobs.factories import SETTINGS, a_job, opening
from tests.server.auth_helpers import Credentials, bearer
from tests.server.conftest import Client, Serve
from tests.server.factories import Worker
from tests.system import run_module

MODELS = """
default = "small"
[models.small]
base_url = "http://127.0.0.1:1/v1"
[models.large]
base_url = "http://127.0.0.1:1/v1"
"""


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_metrics, "SHARED_SECONDS", 0.0)
    monkeypatch.setattr(service_metrics, "KEYS_SECONDS", 0.0)


@pytest.fixture
def models(tmp_path: Path) -> str:
    path = tmp_path / "models.toml"
    path.write_text(MODELS)
    return str(path)


async def page(client: Client) -> str:
    response = await client.get("/metrics")
    assert 200 == response.status
    return await response.text()


async def scrape(client: Client) -> dict[str, float]:
    rows = re.findall(r"^(\S+) (\S+)$", await page(client), re.MULTILINE)
    return {name.replace('"', ""): float(value) for name, value in rows}


async def ask(client: Client, headers: dict[str, str] | None = None, **more: Any) -> None:
    body = {"input": "Why?", "background": True, **more}
    response = await client.post("/v1/responses", json=body, headers=headers)
    assert 200 == response.status, await response.text()


def record(*models: str, state: WorkerState = WorkerState.READY) -> WorkerRecord:
    return WorkerRecord("host", 1, "1", 0, 10, models, state, "", 0, ())


async def test_the_queue_is_counted_by_state_tier_and_model(
    serve: Serve, worker: Worker, models: str
) -> None:
    client = await serve(models=models, model="")
    await ask(client, model="small")
    running = await worker.take()
    for model in ("small", "large", "large"):
        await ask(client, model=model)
    await ask(client, model="large", service_tier="flex")
    found = await scrape(client)
    assert 1 == found["holdline_service_up"]
    assert 4 == found["holdline_queue_jobs{state=waiting}"]
    assert 1 == found["holdline_queue_jobs{state=running}"]
    assert 0 == found["holdline_queue_jobs{state=delayed}"]
    assert 1 == found["holdline_queue_waiting_jobs{model=small,tier=default}"]
    assert 2 == found["holdline_queue_waiting_jobs{model=large,tier=default}"]
    assert 1 == found["holdline_queue_waiting_jobs{model=large,tier=flex}"]
    assert 0 < found["holdline_queue_oldest_seconds{model=large,tier=default}"] < 30
    assert found["holdline_queue_prompt_bytes"] > 100
    await running.complete()
    for _ in range(4):
        await worker.answer("So")
    found = await scrape(client)
    assert 0 == found["holdline_queue_jobs{state=waiting}"]
    # The series of a model does not disappear with its last waiting job.
    assert 0 == found["holdline_queue_waiting_jobs{model=large,tier=default}"]
    assert 0 == found["holdline_queue_oldest_seconds{model=large,tier=default}"]


async def test_live_workers_are_counted_by_state_and_model(
    serve: Serve, pipe: Pipe, models: str
) -> None:
    client = await serve(models=models, model="")
    found = await scrape(client)
    assert 0 == found["holdline_model_workers{model=large}"]
    registry = WorkerRegistry(pipe, SETTINGS.lease_ms)
    await registry.register("a", record("small", "large"))
    await registry.register("b", record("small"))
    await registry.register("c", record("small", "large", state=WorkerState.DRAINING))
    found = await scrape(client)
    assert 2 == found["holdline_model_workers{model=small}"]
    assert 1 == found["holdline_model_workers{model=large}"]
    assert 2 == found["holdline_workers{state=ready}"]
    assert 1 == found["holdline_workers{state=draining}"]
    assert 20 == found["holdline_workers_capacity_jobs"]


async def test_a_model_outside_of_the_models_file_counts_as_other(serve: Serve, pipe: Pipe) -> None:
    client = await serve()
    await ask(client, model="made-up")
    await WorkerRegistry(pipe, SETTINGS.lease_ms).register("a", record())
    found = await scrape(client)
    assert 1 == found["holdline_queue_waiting_jobs{model=other,tier=default}"]
    assert 1 == found["holdline_model_workers{model=other}"]
    assert not [name for name in found if "made-up" in name]


async def test_tenants_and_keys_are_reported(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = Credentials(tmp_path)
    soon, ended = round(time.time()) + 3600, time.time() - 60
    keys = [credentials.key(f"t{number}") for number in range(4)]
    credentials.key("later", expires_at=soon + 3600)
    credentials.key("soon", expires_at=soon)
    credentials.key("ended", expires_at=ended)
    client = await serve(tenant_tokens_per_day="1000000", **credentials.settings)
    for number, key in enumerate(keys):
        for _ in range(number + 1):
            await ask(client, bearer(key))
    found = await scrape(client)
    assert 4 == found["holdline_tenant_jobs{state=waiting,tenant=t3}"]
    assert 0 == found["holdline_tenant_jobs{state=running,tenant=t3}"]
    # A waiting prompt counts with its estimated tokens.
    tokens = found["holdline_tenant_tokens_today{tenant=t3}"]
    assert 0 < tokens < 100_000
    assert tokens / 1_000_000 == found["holdline_tenant_budget_ratio{tenant=t3}"]
    assert soon == found["holdline_api_key_expiry_timestamp_seconds"]
    monkeypatch.setattr(service_metrics, "MAX_TENANTS", 2)
    found = await scrape(client)
    assert 4 == found["holdline_tenant_jobs{state=waiting,tenant=t3}"]
    assert 1 + 2 == found["holdline_tenant_jobs{state=waiting,tenant=other}"]
    assert "holdline_tenant_jobs{state=waiting,tenant=t0}" not in found


async def test_the_memory_of_redis_is_reported(serve: Serve, pipe: Pipe) -> None:
    client = await serve()
    await pipe.call("CONFIG", "SET", "maxmemory", 1 << 30)
    try:
        found = await scrape(client)
    finally:
        await pipe.call("CONFIG", "SET", "maxmemory", 0)
    assert 1 << 30 == found["holdline_redis_max_memory_bytes{master=0}"]
    assert 0 < found["holdline_redis_used_memory_bytes{master=0}"] < 1 << 30
    found = await scrape(client)
    assert found["holdline_redis_max_memory_bytes{master=0}"] > 1 << 30  # the machine's memory


async def test_scrapes_share_one_read_of_redis(
    serve: Serve, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_metrics, "SHARED_SECONDS", 60.0)
    client = await serve()
    await scrape(client)

    async def scripts() -> int:
        stats = (await pipe.call("INFO", "commandstats")).decode()
        return int(re.search(r"cmdstat_smembers:calls=(\d+)", stats)[1])  # type: ignore[index]

    before = await scripts()
    assert before > 0
    for _ in range(20):
        await scrape(client)
    assert before == await scripts()


async def test_without_redis_the_other_metrics_remain(serve: Serve, tmp_path: Path) -> None:
    async with embedded_redis() as url:
        client = await serve(url)
        assert 1 == (await scrape(client))["holdline_service_up"]
        async with Pipe(Redis(url)) as pipe:
            await pipe.call("CLIENT", "PAUSE", 8000, "ALL")
        found = await scrape(client)
        assert 0 == found["holdline_service_up"]
        assert "holdline_queue_jobs{state=waiting}" not in found
        assert 0 == found["holdline_sockets"]


async def test_each_metric_of_the_service_is_declared_once(serve: Serve, models: str) -> None:
    client = await serve(models=models, model="")
    types = re.findall(r"^# TYPE (\S+) (\S+)$", await page(client), re.MULTILINE)
    assert len(types) == len({name for name, _ in types})
    declared = {(metric.name, metric.kind) for metric in ALL}
    missing = declared - {*types}
    # Nothing expires, there is no identity provider.
    assert {"holdline_api_key_expiry_timestamp_seconds", "holdline_jwks_age_seconds"} == {
        name for name, _ in missing
    }


@pytest.mark.parametrize(
    "name", ['a\nholdline_service_up 0\n"} 7', "\x1b[2J\\", "t" * 10_000, "\u202e\x00"]
)
async def test_a_hostile_name_in_redis_is_one_label(
    serve: Serve, pipe: Pipe, redis_url: str, name: str
) -> None:
    job = a_job(f"{name}/anna", "Why?")
    await Queue(pipe, SETTINGS).submit(job, opening(job), queue_name=f"d:{name}")
    text = await page(await serve())
    families = {one.name: one for one in text_string_to_metric_families(text)}
    assert [1.0] == [sample.value for sample in families["holdline_service_up"].samples]
    for family, label in (("holdline_tenant_jobs", "tenant"), ("holdline_queue_jobs", "state")):
        labels = {sample.labels[label] for sample in families[family].samples}
        assert (name in labels) == (label == "tenant")
    shown = await asyncio.to_thread(run_module, "command", "status", REDIS_URL=redis_url)
    assert 0 == shown.returncode, shown.stderr
    assert all(line.isprintable() for line in shown.stdout.splitlines())
