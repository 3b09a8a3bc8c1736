"""Fairness: the lowest finish tag is next, by weight, and no more run at once than may."""

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
    return await queue.claim(0, new_claim(), count)


def owner(grant: Grant) -> str:
    return decode_job(grant.job).owner


async def owners(queue: Queue, count: int) -> str:
    return "".join(owner(grant) for grant in await claim(queue, count))


async def end(pipe: Pipe, grant: Grant, tokens: int | None = None) -> None:
    writer = LogWriter(pipe, grant.response_id, grant.claim, 2)
    last = end_entry(decode_job(grant.job))
    await writer.finish(Status.COMPLETED, [last], retention_ms=60_000, tokens=tokens)


# What was used decides


async def test_who_comes_is_the_next_one_however_many_wait(queue: Queue) -> None:
    for _ in range(50):
        await submitted(queue, "a")
    assert "a" * 10 == await owners(queue, 10)
    await submitted(queue, "b")
    assert "b" == await owners(queue, 1)


async def test_a_tenant_that_took_more_tokens_is_served_less_often(
    pipe: Pipe, queue: Queue
) -> None:
    """Both are served one at a time; an answer of a takes nine times what one of b takes."""
    for tenant in "ab":
        for _ in range(60):
            await submitted(queue, tenant)
    served: Counter[str] = Counter()
    for _ in range(60):
        [grant] = await claim(queue)
        served[owner(grant)] += 1
        await end(pipe, grant, 900 if owner(grant) == "a" else 100)
    assert 5 <= served["a"] <= 8, served


async def test_a_long_prompt_is_booked_before_it_was_answered(queue: Queue) -> None:
    for text in ("x" * 40_000, "x", "x"):
        job = a_job("a", text)
        await queue.submit(job, opening(job))
    for _ in range(6):
        await submitted(queue, "b")
    assert "abbbbbb" == await owners(queue, 7)


async def test_what_an_answer_took_is_put_right_when_its_tenant_has_left(
    pipe: Pipe, queue: Queue
) -> None:
    await submitted(queue, "a")
    await submitted(queue, "b")
    for grant in await claim(queue, 2):
        await end(pipe, grant, 100_000 if owner(grant) == "a" else 10)
    for tenant in "aaabbb":
        await submitted(queue, tenant)
    assert "bbbaaa" == await owners(queue, 6)


async def test_nobody_saves_up_by_staying_away(pipe: Pipe, queue: Queue) -> None:
    for _ in range(30):
        await submitted(queue, "a")
    for _ in range(20):
        [grant] = await claim(queue)
        await end(pipe, grant, 5000)
    for _ in range(30):
        await submitted(queue, "b")
    # b is owed what a took last, ten of its own, and not the 95 000 tokens before.
    assert "b" * 10 + "a" == await owners(queue, 11)


async def test_a_tenant_with_twice_the_weight_is_served_twice_as_often(
    pipe: Pipe, queue: Queue
) -> None:
    await Tenants(pipe, 1).set("a", {"weight": "2"})
    for tenant in "ab":
        for _ in range(40):
            await submitted(queue, tenant)
    assert {"a": 20, "b": 10} == Counter(await owners(queue, 30))


async def test_the_end_of_a_rescued_answer_is_booked_once(pipe: Pipe, queue: Queue) -> None:
    for _ in range(2):
        await submitted(queue, "a")
    [grant] = await claim(queue)
    for _ in range(3):
        await end(pipe, grant, 9000)
    finish_tag = float(await pipe.call("ZSCORE", NAMES.ready, "a"))
    assert finish_tag == pytest.approx(9000)


# How many run


@pytest.fixture
def narrow(pipe: Pipe) -> Queue:
    return Queue(pipe, replace(SETTINGS, tenant_running=2))


async def test_no_more_of_a_tenant_run_than_may_and_nobody_waits_for_that(
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
async def test_whatever_ends_a_run_lets_the_next_one_run(
    pipe: Pipe, narrow: Queue, how: str
) -> None:
    for _ in range(4):
        await submitted(narrow, "a")
    first, second = await claim(narrow, 9)
    assert [] == await claim(narrow, 9)
    match how:
        case "finish":
            await end(pipe, first)
        case "retry":
            await narrow.retry(first.response_id, first.claim, 60_000, "x")
        case "give_back":
            await narrow.give_back(first.response_id, first.claim, "x")
        case "delete":
            await narrow.delete(first.response_id)
        case _:
            await run_out(pipe, first.response_id)
            await narrow.rescue(0, new_claim())
    [third] = await claim(narrow, 9)
    assert second.response_id != third.response_id


async def test_a_limit_counts_over_queues_and_frees_all_of_them(pipe: Pipe, narrow: Queue) -> None:
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


async def test_a_limit_that_is_raised_counts_at_once_also_for_who_is_held_back(
    pipe: Pipe, narrow: Queue
) -> None:
    for _ in range(9):
        await submitted(narrow, "a")
    await claim(narrow, 9)
    assert [] == await claim(narrow, 9)
    await Tenants(pipe, 1).set("a", {"running": "5"})
    assert 3 == len(await claim(narrow, 9))
    await Tenants(pipe, 1).set("a", {"running": "0"})
    assert 4 == len(await claim(narrow, 9))


async def test_an_end_that_was_lost_holds_nobody_back_for_ever(pipe: Pipe, narrow: Queue) -> None:
    jobs = [await submitted(narrow, "a") for _ in range(3)]
    await claim(narrow, 9)
    assert [] == await claim(narrow, 9)
    await pipe.call("DEL", NAMES.running("a"))
    await inspect_now(pipe, jobs[2].id)
    await narrow.rescue(0, new_claim())
    assert 1 == len(await claim(narrow, 9))


async def test_a_worker_that_keeps_its_lease_keeps_its_place_among_the_running(
    pipe: Pipe, narrow: Queue
) -> None:
    for _ in range(3):
        await submitted(narrow, "a")
    held = [(grant.response_id, grant.claim) for grant in await claim(narrow, 9)]
    await pipe.call("DEL", NAMES.running("a"))
    await narrow.extend(0, held)
    await submitted(narrow, "b")
    assert "b" == await owners(narrow, 9)


# What it costs


async def commands(pipe: Pipe) -> int:
    """How many commands Redis has executed, those inside scripts included."""
    info = await pipe.call("INFO", "commandstats")
    return sum(map(int, re.findall(rb"calls=(\d+)", info)))


@pytest.mark.timeout(30)
async def test_a_claim_costs_the_same_however_many_wait(pipe: Pipe, narrow: Queue) -> None:
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


async def test_what_an_answer_took_takes_the_place_of_its_estimate_once(
    pipe: Pipe, queue: Queue
) -> None:
    await submitted(queue, "a")
    [grant] = await claim(queue)
    assert 500 < (await Tenants(pipe, 1).usage("a")).tokens
    for _ in range(2):
        await end(pipe, grant, 37)
    await queue.delete(grant.response_id)
    assert 37 == (await Tenants(pipe, 1).usage("a")).tokens


async def test_the_end_users_of_a_tenant_share_its_turns_and_limits(
    pipe: Pipe, narrow: Queue
) -> None:
    for subject in ("x", "y", ""):
        await submitted(narrow, f"acme/{subject}")
    await submitted(narrow, "other/")
    grants = await claim(narrow, 9)
    assert ["acme/x", "other/", "acme/y"] == [owner(grant) for grant in grants]
    assert "acme" == tenant_of("acme/x")
    assert 2 == (await Tenants(pipe, 1).usage("acme")).running
