"""Tests that the doctor finds missing, paused and old workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from admin.doctor import workers
from admin.doctor.findings import Finding, Level
from jobs.redis.pipe import Pipe
from jobs.worker_registry import WorkerRecord, WorkerRegistry, WorkerState
from runtime.version import program_version
from tests.admin.doctor.single_check import assert_actionable, findings_of

BROKEN, WARNING, OK = Level.BROKEN, Level.WARNING, Level.OK


async def register(pipe: Pipe, name: str, **changed: Any) -> None:
    made: dict[str, Any] = {
        "host": "host-1",
        "pid": 7,
        "version": program_version(),
        "age_ms": 5000,
        "concurrency": 4,
        "models": ("fast",),
        "state": WorkerState.READY,
        "reason": "",
        "jobs": 0,
        "running": (),
    }
    await WorkerRegistry(pipe, 60_000).register(name, WorkerRecord(**made | changed))


@pytest.fixture
def environ(redis_url: str, tmp_path: Path) -> dict[str, str]:
    file = tmp_path / "models.toml"
    url = 'base_url = "http://127.0.0.1:1/v1"'
    file.write_text(f"[models.fast]\n{url}\n[models.large]\n{url}\n")
    return {"REDIS_URL": redis_url, "HOLDLINE_MODELS": str(file), "HOLDLINE_MODEL": ""}


async def serious(environ: dict[str, str]) -> Finding:
    """Returns the only finding that is not ok."""
    [finding] = [each for each in await findings_of(workers.live, environ) if each.level is not OK]
    return finding


async def test_missing_paused_and_old_workers_are_named(
    pipe: Pipe, environ: dict[str, str]
) -> None:
    assert_actionable(await serious(environ), BROKEN, "no worker is running")
    await register(pipe, "a")
    assert_actionable(await serious(environ), BROKEN, "no worker serves large")
    await register(pipe, "b", models=("fast", "large"), state=WorkerState.DRAINING)
    assert_actionable(await serious(environ), BROKEN, "no worker serves large")
    await register(pipe, "b", models=("fast", "large"), host="host-2")
    found = await findings_of(workers.live, environ)
    assert {OK} == {finding.level for finding in found}
    assert "workers: 2 (2 ready); hosts: 2" == found[0].seen
    await register(pipe, "a", state=WorkerState.PAUSED, reason="memory")
    assert_actionable(await serious(environ), WARNING, "paused workers: 1 (memory)")
    await register(pipe, "a", version="0.0.1")
    assert_actionable(await serious(environ), WARNING, "1 with 0.0.1")


async def test_without_a_models_file_any_worker_will_do(pipe: Pipe, redis_url: str) -> None:
    await register(pipe, "a", models=())
    found = await findings_of(workers.live, {"REDIS_URL": redis_url})
    assert {OK} == {finding.level for finding in found}
