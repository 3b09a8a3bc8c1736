"""Tests that submitted jobs finish even if workers die or are stopped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time

import pytest

from jobs.lease_store import RescuePace
from jobs.log.events import RESTARTED
from jobs.names import Partition
from jobs.record import Status
from jobs.redis.pipe import Pipe
from tests.fake_model import FakeModel
from tests.system import System, wait_until
from tests.worker.conftest import MakeHarness, Work
from tests.worker.harness import Harness, numbered, response, said
from worker.rescue import Rescue


async def test_submitted_jobs_are_answered(harness: Harness, work: Work) -> None:
    async with work(harness):
        ids = [await harness.submit("mode=ok") for _ in range(30)]
        for response_id in ids:
            assert Status.COMPLETED is (await harness.ended(response_id)).status
    assert 30 == len(harness.model.calls)


async def until_idle(harness: Harness) -> None:
    """Returns when a worker waits for a wake-up."""

    async def idle() -> bool:
        pipe = harness.context.pipe
        return bool(1 == await pipe.call("ZCARD", Partition(0).idle_workers))

    await wait_until(idle)


async def test_a_submission_wakes_an_idle_worker_at_once(harness: Harness, work: Work) -> None:
    async with work(harness):
        await harness.ended(await harness.submit("mode=ok"))
        await until_idle(harness)
        began = time.monotonic()
        await harness.ended(await harness.submit("mode=ok"))
        assert time.monotonic() - began < 0.4


async def test_all_partitions_are_served(make_harness: MakeHarness, work: Work) -> None:
    async with make_harness(HOLDLINE_PARTITIONS="3") as harness, work(harness):
        ids = [await harness.submit("mode=ok", partition=number) for number in (0, 1, 2, 2, 1, 0)]
        for response_id in ids:
            assert Status.COMPLETED is (await harness.ended(response_id)).status


async def test_concurrent_jobs_are_bounded_by_the_limit(
    make_harness: MakeHarness, work: Work
) -> None:
    async with make_harness(HOLDLINE_CONCURRENCY="3") as harness, work(harness) as running:
        ids = [await harness.submit("mode=slow pace=0.01") for _ in range(9)]
        most = 0
        while not all([(await harness.view(one)).status.ended for one in ids]):
            most = max(most, len(harness.model.open_calls), len(running.worker._held))
        assert 3 == most


async def test_the_bytes_of_claimed_jobs_exceed_the_budget_by_at_most_one_job(
    make_harness: MakeHarness, work: Work
) -> None:
    # Each prompt is 10 KB, so two prompts are below the limit and three exceed it.
    environ = {"HOLDLINE_CONCURRENCY": "9", "HOLDLINE_MAX_HELD_BYTES": "25000"}
    prompt = "mode=slow pace=0.01 " + "x" * 10_000
    async with make_harness(**environ) as harness:
        ids = [await harness.submit(prompt) for _ in range(9)]
        most = 0
        async with work(harness) as running:
            while not all([(await harness.view(one)).status.ended for one in ids]):
                most = max(most, len(harness.model.open_calls), len(running.worker._held))
    assert 3 == most


async def test_a_job_larger_than_the_budget_runs_alone(
    make_harness: MakeHarness, work: Work
) -> None:
    async with make_harness(HOLDLINE_MAX_HELD_BYTES="1") as harness, work(harness):
        ids = [await harness.submit("mode=ok") for _ in range(3)]
        for response_id in ids:
            assert Status.COMPLETED is (await harness.ended(response_id)).status


async def test_a_job_that_runs_longer_than_its_lease_runs_once(
    harness: Harness, work: Work
) -> None:
    async with work(harness), work(harness):
        view = await harness.ended(await harness.submit("mode=slow tokens=100 pace=0.03"))
        assert (Status.COMPLETED, 1) == (view.status, view.attempt)
    assert 1 == len(harness.model.calls)


@pytest.mark.parametrize("mode", ["silent", "headers", "hang"])
async def test_a_cancel_closes_the_connection_to_the_model_within_250_ms(
    harness: Harness, work: Work, mode: str
) -> None:
    async with work(harness):
        response_id = await harness.submit(f"mode={mode}")
        await wait_until(lambda: harness.model.calls)
        asked = time.monotonic()
        assert not await harness.context.queue.cancel(response_id, 0, [])
        assert Status.CANCELLED is (await harness.ended(response_id)).status
        call = harness.model.calls[0]
        await wait_until(lambda: call.closed_by_client)
        assert call.closed_by_client is not None
        assert call.closed_by_client - asked < 0.25


async def test_a_cancel_that_races_the_end_leaves_one_terminal_event(
    harness: Harness, work: Work
) -> None:
    async with work(harness):
        ids = [await harness.submit("mode=slow pace=0.002 tokens=10") for _ in range(20)]
        for response_id in ids:
            await asyncio.sleep(0.01)  # cancels some jobs early and others near their end
            await harness.context.queue.cancel(response_id, 2, [])
        for response_id in ids:
            await harness.ended(response_id)
            events = await harness.events(response_id)
            ends = [event for event in events if "holdline" in event.get("response", {})]
            assert [events[-1]] == ends


async def test_a_deleted_response_frees_its_worker(harness: Harness, work: Work) -> None:
    async with work(harness) as running:
        response_id = await harness.submit("mode=headers")
        await wait_until(lambda: harness.model.calls)
        await harness.context.queue.delete(response_id)
        await wait_until(lambda: harness.model.calls[0].closed_by_client)
        await wait_until(lambda: len(running.worker._held) == 0)


async def test_the_job_of_a_dead_worker_is_finished_by_another(
    harness: Harness, work: Work
) -> None:
    response_id = await harness.submit("mode=ok")
    # A worker claims the job and then disappears.
    await harness.claim()
    async with work(harness):
        view = await harness.ended(response_id)
        assert (Status.COMPLETED, 2) == (view.status, view.attempt)
        events = await harness.events(response_id)
        assert ["worker_lost"] == [e["reason"] for e in events if e["type"] == RESTARTED]


async def test_a_job_that_kills_its_workers_is_failed(
    harness: Harness, work: Work, pipe: Pipe
) -> None:
    response_id = await harness.submit("mode=ok")
    await harness.claim()
    await pipe.call("HSET", Partition(0).job(response_id), "failures", 2)
    async with work(harness):
        assert Status.FAILED is (await harness.ended(response_id)).status
    ended = response(await harness.events(response_id))
    assert "worker_lost" == ended["error"]["code"]
    assert [] == harness.model.calls


async def test_a_response_may_fail_at_the_death_of_its_worker_and_keeps_the_partial_text(
    harness: Harness, work: Work
) -> None:
    response_id = await harness.submit("mode=hang at=5", fail_on_worker_death=True)
    dead = asyncio.create_task(harness.execution(await harness.claim()).run())
    await harness.until_said(response_id, numbered(1, 5))
    dead.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await dead
    async with work(harness):
        assert Status.FAILED is (await harness.ended(response_id)).status
    events = await harness.events(response_id)
    assert "worker_lost" == response(events)["error"]["code"]
    assert harness.model.calls[0].sent == said(events)
    assert ["incomplete"] == [item["status"] for item in response(events)["output"]]


async def test_a_job_that_waited_too_long_fails_with_its_own_code(
    make_harness: MakeHarness, work: Work
) -> None:
    short = {"HOLDLINE_MAX_WAIT_SECONDS": "0.1", "HOLDLINE_CONCURRENCY": "1"}
    async with make_harness(**short) as harness, work(harness):
        first = await harness.submit("mode=headers")
        await wait_until(lambda: harness.model.calls)
        second = await harness.submit("mode=ok")
        assert Status.FAILED is (await harness.ended(second)).status
        ended = response(await harness.events(second))
        assert "queue_timeout" == ended["error"]["code"]
        await harness.context.queue.cancel(first, 0, [])
        await harness.ended(first)


async def test_a_foreign_entry_in_the_queue_blocks_no_job(
    harness: Harness, work: Work, pipe: Pipe
) -> None:
    names = Partition(0)
    await pipe.call("ZADD", names.ready, 0, "me")
    await pipe.call("RPUSH", f"{names.waiting_prefix}me", "garbage")
    async with work(harness):
        assert Status.COMPLETED is (await harness.ended(await harness.submit("mode=ok"))).status
    assert [b"garbage"] == await pipe.call("LRANGE", names.dead, 0, -1)


async def test_a_draining_worker_finishes_jobs_within_the_grace_period(
    make_harness: MakeHarness, work: Work
) -> None:
    async with (
        make_harness(HOLDLINE_SHUTDOWN_GRACE_SECONDS="5") as harness,
        work(harness) as running,
    ):
        response_id = await harness.submit("mode=slow pace=0.02")
        await wait_until(lambda: harness.model.calls)
        running.quiet.set()
        later = await harness.submit("mode=ok")
        assert running.task is not None
        await running.task
        assert Status.COMPLETED is (await harness.view(response_id)).status
        assert Status.QUEUED is (await harness.view(later)).status


async def test_a_draining_worker_gives_back_unfinished_jobs_before_their_lease_expires(
    make_harness: MakeHarness, work: Work
) -> None:
    async with make_harness(HOLDLINE_LEASE_SECONDS="60") as harness:
        response_id = await harness.submit("mode=hang times=1")
        async with work(harness) as running:
            await wait_until(lambda: harness.model.calls and harness.model.calls[0].sent)
            running.quiet.set()
            assert running.task is not None
            await running.task
        async with work(harness):
            view = await harness.ended(response_id, 3.0)
        assert (Status.COMPLETED, 2) == (view.status, view.attempt)
        events = await harness.events(response_id)
        assert ["draining"] == [e["reason"] for e in events if e["type"] == RESTARTED]


async def test_a_worker_suspended_past_its_lease_keeps_jobs_that_nobody_claimed(
    harness: Harness, work: Work
) -> None:
    async with work(harness):
        response_id = await harness.submit("mode=slow pace=0.02 tokens=60")
        await wait_until(lambda: harness.model.calls and harness.model.calls[0].sent)
        time.sleep(1.0)  # blocks this process, and thus its lease renewals, for longer than a lease
        view = await harness.ended(response_id)
    assert (Status.COMPLETED, 1) == (view.status, view.attempt)


async def test_a_worker_suspended_between_a_renewal_and_a_rescue_keeps_its_jobs(
    harness: Harness, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    rescue, suspended = Rescue.rescue, False

    async def rescue_late(self: Rescue, partition: int, pace: RescuePace) -> None:
        nonlocal suspended
        if harness.model.calls and not suspended:
            suspended = True
            time.sleep(1.0)  # blocks this process for longer than a lease
        await rescue(self, partition, pace)

    monkeypatch.setattr(Rescue, "rescue", rescue_late)
    async with work(harness):
        view = await harness.ended(await harness.submit("mode=slow pace=0.02 tokens=60"))
    assert (True, Status.COMPLETED, 1) == (suspended, view.status, view.attempt)


# Tests with real worker processes


async def test_a_worker_process_answers_and_exits_with_status_0(
    system: System, harness: Harness, model: FakeModel
) -> None:
    worker = await system.worker(model.url)
    response_id = await harness.submit("mode=ok")
    await harness.ended(response_id)
    worker.signal(signal.SIGTERM)
    assert 0 == await worker.wait(5)
    assert "mode=ok" not in worker.output
    assert all(json.loads(line) for line in worker.output.splitlines())


async def test_a_killed_worker_process_is_replaced(
    system: System, harness: Harness, model: FakeModel
) -> None:
    first = await system.worker(model.url)
    response_id = await harness.submit("mode=hang times=1")
    await wait_until(lambda: model.calls and model.calls[0].sent)
    await first.kill()
    await system.worker(model.url)
    view = await harness.ended(response_id)
    assert (Status.COMPLETED, 2) == (view.status, view.attempt)
    assert 2 == len(model.calls)


async def test_a_process_suspended_past_its_lease_writes_nothing_more(
    system: System, harness: Harness, model: FakeModel
) -> None:
    first = await system.worker(model.url)
    response_id = await harness.submit("mode=hang times=1")
    await wait_until(lambda: model.calls and model.calls[0].sent)
    first.signal(signal.SIGSTOP)
    await system.worker(model.url)
    view = await harness.ended(response_id)
    assert 2 == view.attempt
    first.signal(signal.SIGCONT)
    await wait_until(lambda: model.calls[0].closed_by_client)
    assert view.entries == (await harness.view(response_id)).entries


async def test_a_worker_process_drains_while_redis_is_unavailable(
    system: System, harness: Harness, model: FakeModel
) -> None:
    worker = await system.worker(model.url, HOLDLINE_SHUTDOWN_GRACE_SECONDS="0.3")
    await harness.submit("mode=headers")
    await wait_until(lambda: model.calls)
    await harness.context.pipe.call("CLIENT", "PAUSE", "4500", "ALL")
    worker.signal(signal.SIGTERM)
    assert 0 == await worker.wait(5)
