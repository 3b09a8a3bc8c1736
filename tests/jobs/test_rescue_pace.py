"""Tests how often the script recovers jobs, and that live workers may renew before it does."""

from __future__ import annotations

from dataclasses import replace

from jobs import lease_store
from jobs.lease_store import RescuePace
from jobs.queue import Queue
from jobs.redis.pipe import Pipe
from tests.jobs.factories import NAMES, SETTINGS, claimed, new_claim, run_out

HOUR = 3_600_000
# A test moves the stored times instead of waiting.
PACE = RescuePace(every_ms=HOUR, max_gap_ms=3 * HOUR, grace_ms=4 * HOUR)


async def later(pipe: Pipe, hours: float) -> None:
    """Changes the stored times as if hours had passed since the last rescue."""
    last, start = map(int, (await pipe.call("GET", NAMES.rescued)).split())
    passed = round(hours * HOUR)
    await pipe.call("SET", NAMES.rescued, f"{last - passed} {max(start - passed, 0)}", "PX", HOUR)


async def requeued(queue: Queue) -> int:
    return (await queue.leases.rescue(0, new_claim(), PACE))[0]


async def lost(pipe: Pipe, queue: Queue) -> tuple[str, str]:
    """Returns a running job whose lease has expired, and its claim."""
    job, grant = await claimed(queue)
    await run_out(pipe, job.id)
    return job.id, grant.claim


async def test_only_the_first_rescue_in_a_while_recovers_jobs(pipe: Pipe, queue: Queue) -> None:
    assert 0 == await requeued(queue)
    await lost(pipe, queue)
    assert 0 == await requeued(queue)
    await later(pipe, 1.5)
    assert 1 == await requeued(queue)


async def test_after_an_outage_live_workers_can_renew_before_a_rescue_takes_their_jobs(
    pipe: Pipe, queue: Queue
) -> None:
    assert 0 == await requeued(queue)
    live, claim = await lost(pipe, queue)
    dead, _ = await lost(pipe, queue)

    await later(pipe, 3.5)
    assert 0 == await requeued(queue)
    assert ["held"] == await queue.leases.extend(0, [(live, claim)])
    await later(pipe, 2)
    assert 0 == await requeued(queue)
    await later(pipe, 2.5)
    assert 1 == await requeued(queue)
    assert dead == (await queue.leases.claim(0, new_claim(), 9))[0].response_id


async def test_a_single_worker_that_is_always_late_still_rescues(pipe: Pipe, queue: Queue) -> None:
    assert 0 == await requeued(queue)
    await lost(pipe, queue)
    found = []
    for _ in range(3):
        await later(pipe, 5)
        found.append(await requeued(queue))
    assert [0, 1, 0] == found


async def test_a_rescue_that_reaches_its_limit_is_followed_by_the_next_at_once(
    pipe: Pipe, queue: Queue
) -> None:
    for _ in range(lease_store.RESCUE_LIMIT + 1):
        await lost(pipe, queue)
    assert [lease_store.RESCUE_LIMIT, 1, 0] == [await requeued(queue) for _ in range(3)]


async def test_a_clock_that_steps_back_postpones_no_rescue(pipe: Pipe) -> None:
    queue = Queue(pipe, replace(SETTINGS, lease_ms=200))
    assert 0 == await requeued(queue)
    await lost(pipe, queue)
    await later(pipe, -5)  # the stored times are in the future
    assert 1 == await requeued(queue)

    await later(pipe, 3.5)
    assert 0 == await requeued(queue)
    await pipe.call("SET", NAMES.rescued, "1 99999999999999", "PX", HOUR)
    assert 0 == await requeued(queue)
    start = int((await pipe.call("GET", NAMES.rescued)).split()[1])
    seconds, _ = await pipe.call("TIME")
    assert start - int(seconds) * 1000 < PACE.grace_ms + 60_000
