"""Tests that a turn is stored once and that accepted jobs can read it after its deletion."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.cipher import Cipher
from jobs.errors import QueueFull, TurnMissing, Undecodable
from jobs.ids import new_response_id
from jobs.queue import Queue
from jobs.record import Job, SharedSettings, TurnSlice
from jobs.redis.pipe import Pipe
from jobs.redis.url import redis_from_url
from jobs.turn_store import TurnStore
from jobs.turns import clip
from tests.jobs.factories import NAMES, SETTINGS, a_job, ending, opening

PARTITIONS = 3


@pytest.fixture
def queue(pipe: Pipe) -> Queue:
    return Queue(pipe, SETTINGS)


@pytest.fixture
def turns(queue: Queue) -> TurnStore:
    return queue.turns


def items_of(text: str) -> list[dict[str, Any]]:
    return [{"text": text, "index": index} for index in range(3)]


async def a_turn(queue: Queue, text: str = "said", partition: int = 0) -> TurnSlice:
    """Stores a finished response that a job can continue."""
    job = a_job()
    job = Job(new_response_id(partition), job.owner, job.created_at, job.params)
    await queue.submit_completed(job, [ending(job)])
    await queue.turns.keep(job.id, job.owner, items_of(text))
    return TurnSlice(job.id, 0, 3)


async def test_turns_of_all_partitions_are_read_in_the_requested_order(
    queue: Queue, turns: TurnStore
) -> None:
    named = [await a_turn(queue, f"turn {n}", n % PARTITIONS) for n in range(7)]
    named[2] = named[2]._replace(first=1, stop=2)
    named.append(named[0]._replace(first=2))

    await turns.hold("job", named)

    expected = [
        {"text": f"turn {n}", "index": index}
        for n, one in [*enumerate(named[:7]), (0, named[7])]
        for index in range(one.first, one.stop)
    ]
    assert expected == await turns.load("job", named) == await turns.read(named)


async def test_a_deleted_turn_stays_readable_for_jobs_accepted_before(
    queue: Queue, turns: TurnStore, pipe: Pipe
) -> None:
    turn = await a_turn(queue)
    for job in ("first", "second"):
        await turns.hold(job, [turn])
    await queue.delete(turn.response_id)

    assert items_of("said") == await turns.load("first", [turn])
    for attempt in (turns.read([turn]), turns.hold("later", [turn]), turns.load("later", [turn])):
        with pytest.raises(TurnMissing):
            await attempt
    with pytest.raises(TurnMissing):
        await turns.keep(turn.response_id, "public", items_of("said"))
    await turns.release("first", [turn])
    assert items_of("said") == await turns.load("second", [turn])
    await turns.release("second", [turn])
    await turns.release("second", [turn])
    assert 0 == await pipe.call("EXISTS", NAMES.turn(turn.response_id))


async def test_an_unreferenced_turn_is_deleted_at_once(queue: Queue, pipe: Pipe) -> None:
    turn = await a_turn(queue)
    await queue.turns.hold("job", [turn])
    await queue.turns.release("job", [turn])
    await queue.delete(turn.response_id)
    assert 0 == await pipe.call("EXISTS", NAMES.turn(turn.response_id))


async def test_a_turn_outlives_its_response_while_jobs_reference_it(
    queue: Queue, turns: TurnStore, pipe: Pipe
) -> None:
    turn = await a_turn(queue)
    name = NAMES.turn(turn.response_id)
    await pipe.call("PEXPIRE", name, 1000)
    # Delete the job and its log, as if the response had expired.
    await pipe.call("DEL", NAMES.job(turn.response_id), NAMES.log(turn.response_id))
    await turns.hold("job", [turn])
    assert SETTINGS.job_ttl_ms - 1000 < await pipe.call("PTTL", name) <= SETTINGS.job_ttl_ms
    assert items_of("said") == await turns.read([turn])


async def test_a_refused_job_references_no_turns(pipe: Pipe) -> None:
    queue = Queue(pipe, SharedSettings(max_waiting=1))
    first = a_job()
    await queue.submit(first, opening(first))
    turn = await a_turn(queue)
    before = await pipe.call("HGETALL", NAMES.turn(turn.response_id))
    job = a_job()
    job = Job(job.id, job.owner, job.created_at, job.params, turns=[turn])
    with pytest.raises(QueueFull):
        await queue.submit(job, opening(job))
    await queue.submit_completed(job, [ending(job)])
    assert before == await pipe.call("HGETALL", NAMES.turn(turn.response_id))


@pytest.fixture
async def locked(redis_url: str, pipe: Pipe) -> AsyncIterator[Pipe]:
    del pipe  # requested because the `pipe` fixture empties Redis
    async with redis_from_url(redis_url, Cipher("A" * 43 + "=")).pipe() as locked:
        yield locked


async def test_a_turn_is_encrypted_and_bound_to_its_response(locked: Pipe) -> None:
    queue = Queue(locked, SETTINGS)
    turn, other = await a_turn(queue, "a secret"), await a_turn(queue, "another")
    kept = await locked.call("HGET", NAMES.turn(turn.response_id), "items")
    assert b"secret" not in kept
    assert items_of("a secret") == await queue.turns.read([turn])
    await locked.call("HSET", NAMES.turn(other.response_id), "items", kept)
    with pytest.raises(Undecodable):
        await queue.turns.read([other])


@given(sizes=st.lists(st.integers(0, 5), max_size=6), data=st.data())
def test_clipped_turns_hold_exactly_the_items_of_the_range(
    sizes: list[int], data: st.DataObject
) -> None:
    turns = [TurnSlice(str(n), 2, 2 + size) for n, size in enumerate(sizes)]
    items = [(turn.response_id, n) for turn in turns for n in range(turn.first, turn.stop)]
    start = data.draw(st.integers(0, len(items)))
    stop = data.draw(st.integers(start, len(items)))
    clipped = clip(turns, start, stop)
    assert items[start:stop] == [
        (t.response_id, n) for t in clipped for n in range(t.first, t.stop)
    ]
