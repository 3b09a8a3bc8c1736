"""Tests the record that a worker keeps in the registry of live workers."""

from __future__ import annotations

import asyncio
import os

from jobs.recent_attempts import RecentAttempts
from jobs.redis.pipe import Pipe
from jobs.worker_registry import LiveWorker, WorkerRegistry, WorkerState
from runtime.version import program_version
from tests.system import wait_until
from tests.worker.conftest import MakeHarness, Work
from tests.worker.harness import Harness


async def only(harness: Harness) -> LiveWorker:
    """Returns the only live worker, as soon as there is one."""
    registry = WorkerRegistry(harness.context.pipe, harness.context.config.shared.lease_ms)
    workers: list[LiveWorker] = await wait_until(registry.all)
    [worker] = workers
    return worker


async def test_a_worker_is_listed_from_its_start_to_its_end(harness: Harness, work: Work) -> None:
    registry = WorkerRegistry(harness.context.pipe, 600)
    async with work(harness):
        worker = await only(harness)
        assert (os.getpid(), program_version(), WorkerState.READY, "") == (
            worker.pid,
            worker.version,
            worker.state,
            worker.reason,
        )
        assert harness.context.config.concurrency == worker.concurrency
        assert () == worker.models
        assert worker.serves("anything")

        await asyncio.sleep(2 * registry.record_ms / 1000)
        assert worker.id == (await only(harness)).id

    assert [] == await registry.all()


async def test_a_running_response_is_listed_with_its_attempt_and_first_token(
    harness: Harness, work: Work
) -> None:
    async with work(harness):
        response_id = await harness.submit("tokens=500 pace=0.02")
        await harness.until_text(response_id)

        async def first_token() -> LiveWorker | None:
            worker = await only(harness)
            written = worker.responses and worker.responses[0].first_token_at
            return worker if written else None

        worker: LiveWorker = await wait_until(first_token)

        [one] = worker.responses
        assert (response_id, "m", 1, 1) == (one.response_id, one.model, one.attempt, worker.running)
        assert one.first_token_at is not None
        assert worker.started_at <= one.started_at <= one.first_token_at <= worker.seen_at


async def test_a_worker_reports_its_failed_attempts_with_their_cause(
    make_harness: MakeHarness, work: Work
) -> None:
    async with make_harness(HOLDLINE_MAX_ATTEMPTS="1") as harness, work(harness):
        await harness.submit("mode=500")
        await harness.ended(harness.only)

        async def reported() -> tuple[RecentAttempts, ...]:
            return (await only(harness)).recent

        recent: tuple[RecentAttempts, ...] = await wait_until(reported)
        assert (RecentAttempts("m", 1, 1, "upstream_unavailable"),) == recent


async def test_a_worker_whose_renewals_are_late_says_so_until_they_are_on_time_again(
    harness: Harness, work: Work
) -> None:
    async with work(harness) as running:
        leases, pace = running.worker._leases, running.worker._leases.pace
        leases._adapt(60.0)
        assert (WorkerState.READY, "leases_renewed_late") == running.worker.state()
        pace.claimed(1)
        assert (WorkerState.PAUSED, "leases_renewed_late") == running.worker.state()
        for _ in range(19):
            pace.renewed(late=False)
        assert (WorkerState.READY, "leases_renewed_late") == running.worker.state()
        pace.renewed(late=False)
        assert (WorkerState.READY, "") == running.worker.state()


async def test_a_worker_that_shuts_down_is_listed_as_draining(
    make_harness: MakeHarness, work: Work
) -> None:
    async with (
        make_harness(HOLDLINE_SHUTDOWN_GRACE_SECONDS="20") as harness,
        work(harness) as running,
    ):
        response_id = await harness.submit("tokens=500 pace=0.02")
        await harness.until_text(response_id)
        running.quiet.set()

        async def drains() -> bool:
            worker = await only(harness)
            return worker.state is WorkerState.DRAINING and worker.running == 1

        await wait_until(drains)


async def test_a_worker_that_waits_for_a_full_redis_is_listed_as_paused(
    harness: Harness, work: Work, pipe: Pipe
) -> None:
    async with work(harness):
        await only(harness)
        await harness.submit()
        await pipe.call("CONFIG", "SET", "maxmemory", "1")
        try:

            async def pauses() -> bool:
                worker = await only(harness)
                return (worker.state, worker.reason) == (WorkerState.PAUSED, "redis_full")

            await wait_until(pauses)
        finally:
            await pipe.call("CONFIG", "SET", "maxmemory", "0")

        async def is_ready() -> bool:
            return (await only(harness)).state is WorkerState.READY

        await wait_until(is_ready)
