"""Tests the overview of the queue on a real Redis."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jobs.ids import new_response_id
from jobs.log.events import submitted
from jobs.log.log import LogWriter
from jobs.names import Partition, queue_name_of
from jobs.overview import Overview, read_overview
from jobs.queue import Queue
from jobs.record import Job, Status
from jobs.redis.pipe import Pipe
from jobs.tenants import Tenants
from tests.jobs.factories import (
    NAMES,
    SETTINGS,
    a_job,
    end_entry,
    ending,
    inspect_now,
    new_claim,
    opening,
    run_out,
)


async def submit(
    queue: Queue, owner: str = "public", tier: str = "default", model: str = ""
) -> Job:
    job = a_job(owner)
    await queue.submit(job, opening(job), queue_name=queue_name_of(tier, model))
    return job


async def overview(pipe: Pipe, **more: Any) -> Overview:
    return await read_overview(pipe, SETTINGS, **more)


def states(found: Overview) -> tuple[int, int, int, int]:
    total = found.total
    return total.unfinished, total.waiting, total.delayed, total.running


async def test_jobs_are_counted_by_state(pipe: Pipe, queue: Queue) -> None:
    for _ in range(5):
        await submit(queue)
    first, second, third = await queue.leases.claim(0, new_claim(), 3)
    assert (5, 2, 0, 3) == states(await overview(pipe))

    await queue.leases.retry(first.response_id, first.claim, 60_000, "upstream_busy")
    assert (5, 2, 1, 2) == states(await overview(pipe))
    await queue.leases.give_back(second.response_id, second.claim, "draining")
    assert (5, 3, 1, 1) == states(await overview(pipe))
    writer = LogWriter(pipe, third.response_id, third.claim, 2)
    await writer.finish(Status.FAILED, [end_entry(a_job())], retention_ms=60_000, bury=True)
    found = await overview(pipe)
    assert (4, 3, 1, 0) == states(found)
    assert 1 == found.total.dead


async def test_a_job_that_is_cancelled_or_deleted_does_not_wait(pipe: Pipe, queue: Queue) -> None:
    cancelled, deleted, kept = [await submit(queue, tier="flex", model="fast") for _ in range(3)]
    await queue.cancel(cancelled.id, 2, [ending(cancelled, Status.CANCELLED)])
    await queue.delete(deleted.id)

    found = await overview(pipe)

    assert (1, 1, 0, 0) == states(found)
    assert [("flex", "fast", 1)] == [(q.tier, q.model, q.waiting) for q in found.queues]
    [grant] = await queue.leases.claim(0, new_claim(), 5)
    assert kept.id == grant.response_id
    assert () == (await overview(pipe)).queues


async def test_a_job_of_a_lost_worker_waits_again(pipe: Pipe, queue: Queue) -> None:
    await submit(queue)
    [grant] = await queue.leases.claim(0, new_claim(), 1)
    await run_out(pipe, grant.response_id)
    found = await overview(pipe)
    assert (1, 1) == (found.total.running, found.total.expired_leases)

    await queue.leases.rescue(0, new_claim())

    found = await overview(pipe)
    assert (1, 1, 0, 0) == states(found)
    assert 0 == found.total.expired_leases


async def test_a_job_that_waited_too_long_no_longer_waits(pipe: Pipe, queue: Queue) -> None:
    job = await submit(queue)
    await pipe.call("HSET", NAMES.job(job.id), "until", 1)
    await inspect_now(pipe, job.id)

    [grant] = (await queue.leases.rescue(0, new_claim()))[1]

    assert (job.id, (1, 0, 0, 1)) == (grant.response_id, states(await overview(pipe)))


async def test_a_job_that_expired_without_any_worker_is_no_longer_counted(
    pipe: Pipe, queue: Queue
) -> None:
    job = await submit(queue, "acme/anna", model="fast")
    await submit(queue, "other/", model="fast")
    await pipe.call("DEL", NAMES.job(job.id))
    await pipe.call("ZADD", NAMES.open_of("acme"), 1, job.id)
    await inspect_now(pipe, job.id)

    await queue.leases.rescue(0, new_claim())

    found = await overview(pipe)
    assert (1, 1, 0, 0) == states(found)
    assert ["other"] == [tenant.tenant for tenant in found.tenants if tenant.unfinished]
    assert 0 == found.other_tenants


async def test_queues_show_their_tier_and_model_and_the_age_of_the_oldest_job(
    pipe: Pipe, queue: Queue
) -> None:
    await submit(queue)
    old = await submit(queue, tier="priority", model="fast")
    await submit(queue, tier="priority", model="fast")
    await submit(queue, tier="flex", model="slow")
    since = f"{NAMES.since}|p:fast"
    await pipe.call("ZINCRBY", since, -90_000, old.id)

    found = await overview(pipe)

    assert [("default", "", 1), ("flex", "slow", 1), ("priority", "fast", 2)] == [
        (q.tier, q.model, q.waiting) for q in found.queues
    ]
    assert 90 <= found.queues[2].oldest_seconds < 150
    assert found.queues[0].oldest_seconds < 60
    assert found.oldest_seconds == found.queues[2].oldest_seconds
    assert (2, found.oldest_seconds) == found.of_model("fast")


async def test_a_returned_job_keeps_the_age_since_its_submission(pipe: Pipe, queue: Queue) -> None:
    job = await submit(queue)
    await pipe.call("HINCRBY", NAMES.job(job.id), "submitted", -90_000)
    [grant] = await queue.leases.claim(0, new_claim(), 1)
    await queue.leases.give_back(grant.response_id, grant.claim, "draining")

    assert 90 <= (await overview(pipe)).oldest_seconds < 150


async def test_jobs_that_their_tenants_limit_holds_back_are_counted(pipe: Pipe) -> None:
    queue = Queue(pipe, replace(SETTINGS, tenant_running=1))
    for _ in range(3):
        await submit(queue, "acme/", model="fast")
    assert 1 == len(await queue.leases.claim(0, new_claim(), 5))
    assert [] == await queue.leases.claim(0, new_claim(), 5)

    found = await overview(pipe)

    assert [("fast", 2)] == [(q.model, q.waiting) for q in found.queues]
    [acme] = found.tenants
    assert (3, 2, 1, True) == (acme.unfinished, acme.waiting, acme.running, acme.held)


async def test_the_tenants_with_the_most_jobs_are_shown_and_the_rest_is_a_sum(
    pipe: Pipe, queue: Queue
) -> None:
    for number in range(6):
        for _ in range(number + 1):
            await submit(queue, f"t{number}/anna")

    found = await overview(pipe, tenants=2)

    assert [("t5", 6), ("t4", 5)] == [(one.tenant, one.unfinished) for one in found.tenants]
    assert (4, 10) == (found.other_tenants, found.other_unfinished)


async def test_a_tenant_without_jobs_is_shown_while_its_budget_is_used(pipe: Pipe) -> None:
    settings = replace(SETTINGS, tenant_tokens=1000)
    queue = Queue(pipe, settings)
    job = await submit(queue, "acme/anna")
    [grant] = await queue.leases.claim(0, new_claim(), 1)
    writer = LogWriter(pipe, job.id, grant.claim, 2)
    end = [end_entry(job)]
    await writer.finish(Status.COMPLETED, end, retention_ms=60_000, tokens=900, money=2_500_000)
    await Tenants(pipe, range(1)).set("acme", {"money_per_day": "5"})

    found = await read_overview(pipe, settings)

    [acme] = found.tenants
    assert (0, 900, 1000, 2.5, 5) == (
        acme.unfinished,
        acme.tokens,
        acme.tokens_per_day,
        acme.money,
        acme.money_per_day,
    )
    assert 0.9 == acme.budget_share
    assert 0 == found.other_unfinished


async def test_a_paused_model_is_shown_until_its_pause_ends(pipe: Pipe, queue: Queue) -> None:
    await submit(queue, model="fast")
    await queue.pause("fast", 30)
    await queue.pause("idle", 20)
    await queue.pause("unknown", 20)

    found = await overview(pipe, models=["idle"])

    assert [("fast", "retry_after"), ("idle", "retry_after")] == [
        (paused.model, paused.reason) for paused in found.paused
    ]
    assert 0 < found.paused[1].seconds <= 20 < found.paused[0].seconds <= 30
    await pipe.call("HSET", NAMES.pause("fast"), "until", 1)
    assert ["idle"] == [paused.model for paused in (await overview(pipe, models=["idle"])).paused]


async def test_partitions_are_counted_one_by_one_and_summed(pipe: Pipe) -> None:
    settings = replace(SETTINGS, partitions=range(3), tenant_tokens=100_000)
    queue = Queue(pipe, settings)
    for partition, jobs in ((0, 1), (2, 3)):
        for _ in range(jobs):
            job = replace(a_job("acme/"), id=new_response_id(partition))
            await queue.submit(job, submitted(job), queue_name="p:fast")
    await pipe.call("ZINCRBY", f"{Partition(0).since}|p:fast", -90_000, *await _only(pipe))

    found = await read_overview(pipe, settings)

    assert (1, 0, 3) == tuple(one.waiting for one in found.partitions)
    assert (4, 4, 0, 0) == states(found)
    [fast] = found.queues
    assert 4 == fast.waiting
    assert 90 <= fast.oldest_seconds < 150
    [acme] = found.tenants
    assert 4 == acme.unfinished
    # Each partition has the whole limit, and the third one has used the most of it.
    assert acme.tokens * 3 / 4 / 100_000 == pytest.approx(acme.budget_share)


async def test_the_cost_does_not_depend_on_the_number_of_jobs(pipe: Pipe, queue: Queue) -> None:
    await submit(queue, "acme/", model="fast")
    few = await _cost(pipe)
    fill = """
    for n = ARGV[1] + 1, ARGV[1] + 1000 do
      local id = string.format('resp_%035x', n)
      redis.call('ZADD', KEYS[1] .. 'open', n, id)
      redis.call('ZADD', KEYS[1] .. 'since|d:fast', n, id)
      redis.call('ZADD', KEYS[1] .. 'open:acme', '+inf', id)
      redis.call('RPUSH', KEYS[1] .. 'waiting|d:fast|acme', id)
    end
    """
    for first in range(0, 100_000, 1_000):  # one long script would block Redis for seconds
        await pipe.call("EVAL", fill, 1, NAMES.prefix, first)

    many = await _cost(pipe)

    assert 100_001 == (await overview(pipe)).total.waiting
    assert few == many


async def test_an_empty_queue_has_an_empty_overview(pipe: Pipe) -> None:
    found = await overview(pipe)

    assert (0, 0, 0, 0) == states(found)
    assert ((), (), (), 0.0) == (found.queues, found.tenants, found.paused, found.oldest_seconds)
    shown = found.as_dict()
    assert (0, []) == (shown["total"]["unfinished"], list(shown["tenants"]))


async def _only(pipe: Pipe) -> list[bytes]:
    found: list[bytes] = await pipe.call("ZRANGE", f"{Partition(0).since}|p:fast", 0, 0)
    return found


async def _cost(pipe: Pipe) -> dict[str, int]:
    """Returns the numbers of commands that Redis executes for one overview, also in scripts."""
    await pipe.call("CONFIG", "RESETSTAT")
    await overview(pipe)
    lines = (await pipe.call("INFO", "commandstats")).decode().splitlines()[1:]
    return {
        line.partition(":")[0]: int(line.split("calls=")[1].split(",")[0])
        for line in lines
        if not line.startswith(("cmdstat_config", "cmdstat_info"))
    }
