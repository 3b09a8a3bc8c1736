"""Tests fair queueing, in which the lowest finish tag is served next, with weights and limits."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest

from jobs.log.codec import decode_job
from jobs.log.log import LogWriter
from jobs.names import queue_name_of, tenant_of
from jobs.queue import Queue
from jobs.record import Status
from jobs.redis.pipe import Pipe
from jobs.replies import Grant
from jobs.tenants import Tenants
from tests.jobs.factories import (
    NAMES,
    SETTINGS,
    a_job,
    end_entry,
    inspect_now,
    new_claim,
    opening,
    run_out,
    submitted,
)


@pytest.fixture
def queue(pipe: Pipe) -> Queue:
    return Queue(pipe, SETTINGS)


async def claim(queue: Queue, count: int = 1) -> list[Grant]:
    return await queue.leases.claim(0, new_claim(), count)


def owner(grant: Grant) -> str:
    return decode_job(grant.job).owner


async def owners(queue: Queue, count: int) -> str:
    return "".join(owner(grant) for grant in await claim(queue, count))


async def end(pipe: Pipe, grant: Grant, tokens: int | None = None) -> None:
    writer = LogWriter(pipe, grant.response_id, grant.claim, 2)
    last = end_entry(decode_job(grant.job))
    await writer.finish(Status.COMPLETED, [last], retention_ms=60_000, tokens=tokens)


# The tokens that a tenant has used determine its turn


async def test_a_new_owner_is_served_next_regardless_of_the_queue_length(queue: Queue) -> None:
    for _ in range(50):
        await submitted(queue, "a")
    assert "a" * 10 == await owners(queue, 10)
    await submitted(queue, "b")
    assert "b" == await owners(queue, 1)


async def test_a_tenant_that_used_more_tokens_is_served_less_often(
    pipe: Pipe, queue: Queue
) -> None:
    """Both tenants run one job at a time.

    Each of a's answers uses nine times as many tokens as one of b's.
    """
    for tenant in "ab":
        for _ in range(60):
            await submitted(queue, tenant)
    served: Counter[str] = Counter()
    for _ in range(60):
        [grant] = await claim(queue)
        served[owner(grant)] += 1
        await end(pipe, grant, 900 if owner(grant) == "a" else 100)
    assert 5 <= served["a"] <= 8, served


async def test_a_long_prompt_is_charged_before_it_is_answered(queue: Queue) -> None:
    for text in ("x" * 40_000, "x", "x"):
        job = a_job("a", text)
        await queue.submit(job, opening(job))
    for _ in range(6):
        await submitted(queue, "b")
    assert "abbbbbb" == await owners(queue, 7)


async def test_the_charge_is_corrected_even_after_its_tenant_became_idle(
    pipe: Pipe, queue: Queue
) -> None:
    await submitted(queue, "a")
    await submitted(queue, "b")
    for grant in await claim(queue, 2):
        await end(pipe, grant, 100_000 if owner(grant) == "a" else 10)
    for tenant in "aaabbb":
        await submitted(queue, tenant)
    assert "bbbaaa" == await owners(queue, 6)


async def test_an_idle_tenant_accumulates_no_credit(pipe: Pipe, queue: Queue) -> None:
    for _ in range(30):
        await submitted(queue, "a")
    for _ in range(20):
        [grant] = await claim(queue)
        await end(pipe, grant, 5000)
    for _ in range(30):
        await submitted(queue, "b")
    # The last job of a used as many tokens as ten jobs of b. Therefore b gets ten turns before a.
    # The 95,000 tokens that a used earlier do not count.
    assert "b" * 10 + "a" == await owners(queue, 11)


@pytest.mark.parametrize("tokens", [10, 5_000], ids=["fewer tokens", "more tokens"])
async def test_a_tenant_that_was_alone_gets_no_credit_or_debt_for_its_estimates(
    pipe: Pipe, queue: Queue, tokens: int
) -> None:
    for _ in range(60):
        await submitted(queue, "a")
    running = await claim(queue, 20)
    for _ in range(60):
        await submitted(queue, "b")
    served: Counter[str] = Counter()
    for grant in running:
        await end(pipe, grant, tokens)
        served[await owners(queue, 1)] += 1
    assert 9 <= served["a"] <= 11, served


async def test_a_tenant_with_twice_the_weight_is_served_twice_as_often(
    pipe: Pipe, queue: Queue
) -> None:
    await Tenants(pipe, range(1)).set("a", {"weight": "2"})
    for tenant in "ab":
        for _ in range(40):
            await submitted(queue, tenant)
    assert {"a": 20, "b": 10} == Counter(await owners(queue, 30))


async def test_a_rescued_answer_is_charged_once(pipe: Pipe, queue: Queue) -> None:
    for _ in range(2):
        await submitted(queue, "a")
    [grant] = await claim(queue)
    for _ in range(3):
        await end(pipe, grant, 9000)
    finish_tag = float(await pipe.call("ZSCORE", NAMES.ready, "a"))
    assert finish_tag == pytest.approx(9000)


# Limits on running jobs


@pytest.fixture
def narrow(pipe: Pipe) -> Queue:
    return Queue(pipe, replace(SETTINGS, tenant_running=2))


async def test_a_tenant_at_its_concurrency_limit_does_not_delay_others(
    pipe: Pipe, narrow: Queue
) -> None:
    for _ in range(9):
        await submitted(narrow, "a")
    first = await claim(narrow, 9)
    assert 2 == len(first)
    for tenant in "bc":
        await submitted(narrow, tenant)
    assert "bc" == await owners(narrow, 9)
    assert "" == await owners(narrow, 9)
    await end(pipe, first[0])
    assert "a" == await owners(narrow, 9)


@pytest.mark.parametrize("how", ["finish", "retry", "give_back", "delete", "dead"])
async def test_each_way_to_end_a_run_frees_its_slot(pipe: Pipe, narrow: Queue, how: str) -> None:
    for _ in range(4):
        await submitted(narrow, "a")
    first, second = await claim(narrow, 9)
    assert [] == await claim(narrow, 9)
    match how:
        case "finish":
            await end(pipe, first)
        case "retry":
            await narrow.leases.retry(first.response_id, first.claim, 60_000, "x")
        case "give_back":
            await narrow.leases.give_back(first.response_id, first.claim, "x")
        case "delete":
            await narrow.delete(first.response_id)
        case _:
            await run_out(pipe, first.response_id)
            await narrow.leases.rescue(0, new_claim())
    [third] = await claim(narrow, 9)
    assert second.response_id != third.response_id


async def test_a_concurrency_limit_applies_across_queues(pipe: Pipe, narrow: Queue) -> None:
    for tier in ("priority", "default", "flex") * 2:
        job = a_job("a")
        await narrow.submit(job, opening(job), queue_name=queue_name_of(tier, "m"))
    seen = []
    while grants := await claim(narrow, 9):
        assert len(grants) <= 2
        seen += [grant.queue_name for grant in grants]
        for grant in grants:
            await end(pipe, grant)
    assert ["p:m", "p:m", "d:m", "d:m", "f:m", "f:m"] == seen


async def test_a_raised_limit_applies_at_once_to_waiting_jobs(pipe: Pipe, narrow: Queue) -> None:
    for _ in range(9):
        await submitted(narrow, "a")
    await claim(narrow, 9)
    assert [] == await claim(narrow, 9)
    await Tenants(pipe, range(1)).set("a", {"running": "5"})
    assert 3 == len(await claim(narrow, 9))
    await Tenants(pipe, range(1)).set("a", {"running": "0"})
    assert 4 == len(await claim(narrow, 9))


async def test_a_slot_whose_release_was_lost_is_freed_eventually(pipe: Pipe, narrow: Queue) -> None:
    jobs = [await submitted(narrow, "a") for _ in range(3)]
    await claim(narrow, 9)
    assert [] == await claim(narrow, 9)
    await pipe.call("DEL", NAMES.running("a"))
    await inspect_now(pipe, jobs[2].id)
    await narrow.leases.rescue(0, new_claim())
    assert 1 == len(await claim(narrow, 9))


async def test_a_renewed_lease_keeps_its_slot(pipe: Pipe, narrow: Queue) -> None:
    for _ in range(3):
        await submitted(narrow, "a")
    held = [(grant.response_id, grant.claim) for grant in await claim(narrow, 9)]
    await pipe.call("DEL", NAMES.running("a"))
    await narrow.leases.extend(0, held)
    await submitted(narrow, "b")
    assert "b" == await owners(narrow, 9)


# The cost of a claim


async def commands(pipe: Pipe) -> int:
    """Returns the number of commands that Redis has executed, including those in scripts."""
    info = await pipe.call("INFO", "commandstats")
    return sum(map(int, re.findall(rb"calls=(\d+)", info)))


@pytest.mark.timeout(30)
async def test_the_cost_of_a_claim_does_not_depend_on_the_queue_length(
    pipe: Pipe, narrow: Queue
) -> None:
    costs = []
    for waiting in (20, 1000):
        await pipe.call("FLUSHALL")
        for tenant in "abcd":
            for _ in range(waiting // 4):
                await submitted(narrow, tenant)
        first = (await claim(narrow, 2))[0]
        await claim(narrow, 20)
        assert [] == await claim(narrow, 20), "all are held back"
        before = await commands(pipe)
        assert [] == await claim(narrow, 20)
        await end(pipe, first)
        assert 1 == len(await claim(narrow, 20))
        costs.append(await commands(pipe) - before)
    await pipe.call("FLUSHALL")
    assert abs(costs[0] - costs[1]) < 5, costs
    assert max(costs) < 80, costs


async def test_the_actual_usage_replaces_the_estimate_once(pipe: Pipe, queue: Queue) -> None:
    await submitted(queue, "a")
    [grant] = await claim(queue)
    assert 500 < (await Tenants(pipe, range(1)).usage("a")).tokens
    for _ in range(2):
        await end(pipe, grant, 37)
    await queue.delete(grant.response_id)
    assert 37 == (await Tenants(pipe, range(1)).usage("a")).tokens


async def test_end_users_share_the_turns_and_limits_of_their_tenant(
    pipe: Pipe, narrow: Queue
) -> None:
    for subject in ("x", "y", ""):
        await submitted(narrow, f"acme/{subject}")
    await submitted(narrow, "other/")
    grants = await claim(narrow, 9)
    assert ["acme/x", "other/", "acme/y"] == [owner(grant) for grant in grants]
    assert "acme" == tenant_of("acme/x")
    assert 2 == (await Tenants(pipe, range(1)).usage("acme")).running
