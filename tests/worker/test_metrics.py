"""Tests that a worker's metrics count what happened."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from jobs.lease_store import AT_ONCE
from tests.fake_model import FakeModel
from tests.system import wait_until
from tests.worker.conftest import MakeHarness
from tests.worker.harness import Harness
from worker.metrics import ALL, WorkerMetrics
from worker.rescue import Rescue
from worker.stop import Stop

OPENAI = ("chat", "openai")


def count(harness: Harness, name: str, *labels: str) -> float:
    return harness.context.metrics.registry.get(name, *labels)


async def test_a_completed_response_is_counted_with_its_times_and_tokens(
    harness: Harness,
) -> None:
    await harness.execute("tokens=20 pace=0.005")
    assert 1 == count(harness, "holdline_queue_wait_seconds", "other")
    assert 1 == count(harness, "holdline_attempts_total", "other", "stop")
    assert 1 == count(harness, "holdline_responses_total", "other", "completed")
    assert 1 == count(harness, "holdline_response_duration_seconds", "other")
    assert 1 == count(harness, "holdline_time_to_first_token_seconds", "other")
    assert 1 == count(harness, "gen_ai_client_operation_duration_seconds", *OPENAI, "other", "")
    first_chunk = "gen_ai_client_operation_time_to_first_chunk_seconds"
    assert 1 == count(harness, first_chunk, *OPENAI, "other")
    assert 1 == count(harness, "holdline_output_tokens_per_second", "other")
    appends = count(harness, "holdline_append_entries")
    assert appends > 1
    assert appends == count(harness, "holdline_append_seconds")
    totals = harness.context.metrics.registry.state().totals
    tokens = totals["gen_ai_client_token_usage"]
    assert 20 == tokens[*OPENAI, "other", "output"][-1]
    [call] = harness.model.calls
    assert call.ended is not None
    duration = totals["gen_ai_client_operation_duration_seconds"][*OPENAI, "other", ""][-1]
    speed = totals["holdline_output_tokens_per_second"]["other",][-1]
    assert duration > 0.095  # 19 pauses
    assert 20 / duration < speed < 20 / 0.095


async def test_failed_attempts_are_counted_by_their_cause(harness: Harness) -> None:
    await harness.execute("mode=500", attempts=3)
    assert 3 == count(harness, "holdline_attempts_total", "other", "upstream_unavailable")
    failed = (*OPENAI, "other", "upstream_unavailable")
    assert 3 == count(harness, "gen_ai_client_operation_duration_seconds", *failed)
    assert 1 == count(harness, "holdline_queue_wait_seconds", "other")
    assert 1 == count(harness, "holdline_responses_total", "other", "failed")
    assert 0 == count(harness, "holdline_time_to_first_token_seconds", "other")
    assert 2 == count(harness, "holdline_recoveries_total", "other", "restart")


async def test_a_job_given_back_and_a_lost_lease_are_counted(harness: Harness) -> None:
    for reason, name, labels in (
        (Stop.GIVE_BACK, "holdline_attempts_total", ("other", "draining")),
        (Stop.LOST, "holdline_leases_lost_total", ("taken",)),
        (Stop.GONE, "holdline_leases_lost_total", ("deleted",)),
    ):
        await harness.submit("mode=hang at=3")
        execution = harness.execution(await harness.claim())
        running = asyncio.create_task(execution.run())
        await harness.until_text(harness.ids[0])
        execution.stop(reason)
        await running
        assert 1 == count(harness, name, *labels)


async def test_a_model_that_is_not_configured_counts_as_other(
    make_harness: MakeHarness, model: FakeModel
) -> None:
    metrics = WorkerMetrics({"m", "default"})
    metrics.attempted("m", "stop")
    metrics.attempted("made-up", "stop")
    metrics.attempted(None, "stop")
    assert 1 == metrics.registry.get("holdline_attempts_total", "m", "stop")
    assert 2 == metrics.registry.get("holdline_attempts_total", "other", "stop")
    async with make_harness(HOLDLINE_MODEL="m") as harness:
        assert {"m"} == harness.context.config.model_names


async def test_rescued_and_dead_jobs_are_counted(make_harness: MakeHarness) -> None:
    async with (
        make_harness(HOLDLINE_LEASE_SECONDS="0.1", HOLDLINE_MAX_ATTEMPTS="1") as harness,
        Rescue(harness.context) as rescue,
    ):
        await harness.submit()
        await harness.claim()  # and die

        async def rescued() -> float:
            await rescue.rescue(0, AT_ONCE)
            return count(harness, "holdline_rescued_total", "ended")

        await wait_until(rescued)
        await harness.ended(harness.only)
        await wait_until(lambda: count(harness, "holdline_dead_total"))
        assert 1 == count(harness, "holdline_dead_total")
        assert 1 == count(harness, "holdline_responses_total", "other", "failed")


async def test_a_failover_is_counted_for_the_model_that_failed(
    make_harness: MakeHarness, model: FakeModel, tmp_path: Path
) -> None:
    models = tmp_path / "models.toml"
    models.write_text(
        f"""
[models.m]
base_url = "http://127.0.0.1:1/v1"
fallbacks = ["spare"]
[models.spare]
base_url = "{model.url}"
"""
    )
    async with make_harness(HOLDLINE_MODELS=str(models)) as harness:
        assert {"m", "spare", "default"} >= harness.context.config.model_names
        await harness.execute("tokens=2")
        name = "holdline_failed_over_total"
        router = harness.context.router._metrics.registry
        assert 1 == router.get(name, "other", "upstream_unavailable")


async def test_the_end_of_a_models_key_and_failures_are_reported(
    make_harness: MakeHarness, model: FakeModel, tmp_path: Path
) -> None:
    ends_at = round(time.time()) + 3600
    key = f'{{"access_token": "sk-secret", "expires_at": {ends_at}}}'
    models = tmp_path / "models.toml"
    models.write_text(
        f"""
[models.m]
base_url = "{model.url}"
api_key_command = ["echo", '{key}']
[models.broken]
base_url = "{model.url}"
api_key_command = ["false"]
"""
    )
    async with make_harness(HOLDLINE_MODELS=str(models)) as harness:
        router = harness.context.router
        router.update_metrics()
        # The series exist before the first failure, which an alert would otherwise miss.
        failures = router._metrics.registry.state().totals["holdline_model_key_failures_total"]
        assert {("m",): [0], ("broken",): [0]} == failures
        await harness.execute("tokens=2")
        await harness.execute("tokens=2", model="broken")
        router.update_metrics()
        values = router._metrics.registry.get
        assert ends_at == values("holdline_model_key_expiry_timestamp_seconds", "m")
        assert 1 == values("holdline_model_key_failures_total", "broken")
        assert 0 == values("holdline_model_key_failures_total", "m")


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_each_metric_has_a_text_for_the_documents(metric: object) -> None:
    assert getattr(metric, "meaning", "")
