"""Tests a queue with tiers and models: priority, starvation, and models without free slots."""

from __future__ import annotations

import pytest

from jobs.log.log import read
from jobs.names import queue_name_of
from jobs.queue import Queue
from jobs.record import Status
from jobs.redis.pipe import Pipe
from tests.jobs.factories import (
    NAMES,
    SETTINGS,
    a_job,
    ending,
    inspect_now,
    new_claim,
    opening,
    run_out,
)


@pytest.fixture
def queue(pipe: Pipe) -> Queue:
    return Queue(pipe, SETTINGS)


async def waits(queue: Queue, tier: str = "default", model: str = "", owner: str = "a") -> str:
    """Submits a job and returns its id."""
    job = a_job(owner)
    await queue.submit(job, opening(job), queue_name=queue_name_of(tier, model))
    return job.id


async def next_ids(queue: Queue, count: int = 1, **room: int) -> list[str]:
    return [grant.response_id for grant in await queue.leases.claim(0, new_claim(), count, room)]


async def has_waited(pipe: Pipe, *ids: str, minutes: int = 2) -> None:
    """Makes jobs look as if they had waited so long that few other jobs may still overtake them."""
    for id_ in ids:
        await pipe.call("HINCRBY", NAMES.job(id_), "submitted", -60_000 * minutes)


@pytest.mark.parametrize(
    ("tier", "model", "queue_name"),
    [
        (None, "", ""),
        ("auto", "", ""),
        ("default", "m", "d:m"),
        ("flex", "", "f:"),
        ("priority", "a:b", "p:a:b"),
    ],
)
def test_a_queue_name_consists_of_tier_and_model(
    tier: str | None, model: str, queue_name: str
) -> None:
    assert queue_name == queue_name_of(tier, model)


async def test_priority_comes_first_and_flex_last(queue: Queue) -> None:
    tiers = ["flex", "default", "priority", "flex", "default", "priority"]
    ids = [await waits(queue, tier) for tier in tiers]
    assert [ids[i] for i in (2, 5, 1, 4, 0, 3)] == await next_ids(queue, 9)


async def test_owners_take_turns_within_a_tier(queue: Queue) -> None:
    for tier in ("flex", "priority"):
        flood = [await waits(queue, tier, owner="flood") for _ in range(4)]
        quiet = [await waits(queue, tier, owner="quiet") for _ in range(2)]
        wanted = [flood[0], quiet[0], flood[1], quiet[1], flood[2], flood[3]]
        assert wanted == await next_ids(queue, 9)


async def test_models_take_turns_within_a_tier(queue: Queue) -> None:
    one = [await waits(queue, model="one") for _ in range(3)]
    two = [await waits(queue, model="two") for _ in range(3)]
    assert [x for pair in zip(one, two, strict=True) for x in pair] == await next_ids(queue, 9)


async def test_a_job_waiting_for_a_full_model_does_not_delay_others(queue: Queue) -> None:
    full = [await waits(queue, tier, "full") for tier in ("priority", "default", "default")]
    free = [await waits(queue, tier, "free") for tier in ("default", "flex")]
    plain = await waits(queue)
    assert {*free, plain} == set(await next_ids(queue, 9, full=0))
    assert [] == await next_ids(queue, 9, full=0)
    assert full[:2] == await next_ids(queue, 9, full=2)
    assert full[2:] == await next_ids(queue, 9)


@pytest.mark.parametrize("tier", ["default", "flex"])
async def test_a_job_that_waited_long_is_overtaken_at_most_three_times(
    pipe: Pipe, queue: Queue, tier: str
) -> None:
    old = [await waits(queue, tier) for _ in range(2)]
    fast = [await waits(queue, "priority") for _ in range(8)]
    await has_waited(pipe, *old)
    found = [id_ for _ in range(10) for id_ in await next_ids(queue)]
    assert [*fast[:3], old[0], *fast[3:6], old[1], *fast[6:]] == found


async def test_flex_is_not_starved_by_default(pipe: Pipe, queue: Queue) -> None:
    flex = await waits(queue, "flex")
    await has_waited(pipe, flex)
    order: list[str] = []
    while flex not in order:
        assert len(order) < 5
        await waits(queue)
        await waits(queue)
        order += await next_ids(queue)


async def test_a_position_counts_the_jobs_ahead(pipe: Pipe, queue: Queue) -> None:
    """Jobs of the same owner and model count in every tier; other jobs do not count."""
    for tier in ("default", "default", "flex", "priority"):
        await waits(queue, tier, "m")
    await waits(queue, "priority", "n")
    await waits(queue, "priority", "m", owner="b")
    last = await waits(queue, "flex", "m")
    view = await read(pipe, last, 0, max_entries=0)
    assert "f:m" == view.queue_name
    _, heads = await queue.queue_positions(0, [("f:m", "a"), ("d:m", "a"), ("p:m", "a"), ("", "a")])
    assert [(1, 3, ""), (1, 1, ""), (1, 0, ""), (0, 0, "")] == list(heads.values())
    assert 2 == view.number


async def test_a_position_is_reported_without_a_models_file(queue: Queue) -> None:
    for tier in ("priority", "default", "flex"):
        await waits(queue, tier)
    _, heads = await queue.queue_positions(0, [("f:", "a"), ("", "a"), ("p:", "a")])
    assert [(1, 2, ""), (1, 1, ""), (1, 0, "")] == list(heads.values())


async def test_a_requeued_job_returns_to_its_own_queue(pipe: Pipe, queue: Queue) -> None:
    """Covers a retry, a stopped worker, a dead worker, and an id that the queue has lost."""
    ids = [await waits(queue, "flex", "m") for _ in range(4)]
    claims = {g.response_id: g for g in await queue.leases.claim(0, new_claim(), 9)}
    assert {"m"} == {grant.model for grant in claims.values()}
    await queue.leases.retry(ids[0], claims[ids[0]].claim, 0, "why")
    await queue.leases.give_back(ids[1], claims[ids[1]].claim, "draining")
    await run_out(pipe, ids[2])
    await queue.leases.rescue(0, new_claim())
    assert [] == await next_ids(queue, 9, m=0)
    assert set(ids[:3]) == set(await next_ids(queue, 9))
    lost = await waits(queue, "flex", "m")
    await pipe.call("DEL", "holdline:{0}:waiting|f:m|a", "holdline:{0}:ready|f:m", NAMES.queues)
    await inspect_now(pipe, lost)
    await queue.leases.rescue(0, new_claim())
    assert [lost] == await next_ids(queue, 9)
    assert [] == await pipe.call("KEYS", "holdline:*waiting*")


async def test_a_lost_list_of_queues_is_restored(pipe: Pipe, queue: Queue) -> None:
    waiting = await waits(queue, "priority")
    await pipe.call("DEL", NAMES.queues)
    assert [] == await next_ids(queue)
    await inspect_now(pipe, waiting)
    await queue.leases.rescue(0, new_claim())
    assert [waiting] == await next_ids(queue)


async def test_a_waiting_job_is_cancelled_in_its_queue(queue: Queue) -> None:
    job = a_job("a")
    await queue.submit(job, opening(job), queue_name="f:m")
    assert await queue.cancel(job.id, 2, [ending(job, Status.CANCELLED)])
    assert [] == await next_ids(queue, 9)
