"""Tests the registry of live workers on a real Redis."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.names import Partition
from jobs.redis.pipe import Pipe
from jobs.worker_registry import (
    MAX_WORKERS,
    RunningRecord,
    WorkerRecord,
    WorkerRegistry,
    WorkerState,
)
from tests.system import wait_until

NAMES = Partition(0)
LEASE_MS = 60_000


def a_record(**changed: Any) -> WorkerRecord:
    made: dict[str, Any] = {
        "host": "host-1",
        "pid": 7,
        "version": "1.2",
        "age_ms": 5_000,
        "concurrency": 4,
        "models": ("fast",),
        "state": WorkerState.READY,
        "reason": "",
        "jobs": 0,
        "running": (),
    }
    return WorkerRecord(**made | changed)


async def test_a_record_shows_what_the_worker_runs_in_the_time_of_redis(pipe: Pipe) -> None:
    registry = WorkerRegistry(pipe, LEASE_MS)
    running = RunningRecord("resp_1", "fast", 2, 900, 300), RunningRecord("resp_2", "fast", 1, 10)
    await registry.register("a", a_record(jobs=2, running=running))

    page = await registry.page()

    [worker] = page.workers
    assert ("a", "host-1", 7, "1.2", 4, ("fast",)) == (
        worker.id,
        worker.host,
        worker.pid,
        worker.version,
        worker.concurrency,
        worker.models,
    )
    assert worker.seen_at <= page.now < worker.seen_at + LEASE_MS
    assert worker.started_at == worker.seen_at - 5_000
    assert [(2, 900, 300), (1, 10, None)] == [
        (
            one.attempt,
            worker.seen_at - one.started_at,
            one.first_token_at and worker.seen_at - one.first_token_at,
        )
        for one in worker.responses
    ]
    assert 2 == worker.running
    shown = page.as_dict()["workers"][0]
    assert ("ready", ["fast"], "resp_1") == (
        shown["state"],
        shown["models"],
        shown["responses"][0]["response_id"],
    )


async def test_a_worker_that_stops_writing_disappears(pipe: Pipe) -> None:
    registry = WorkerRegistry(pipe, 100)
    await registry.register("dead", a_record())
    assert ["dead"] == [worker.id for worker in await registry.all()]

    async def is_gone() -> bool:
        return not await registry.all()

    await wait_until(is_gone)
    await registry.register("next", a_record())

    assert [b"next"] == await pipe.call("ZRANGE", NAMES.workers, 0, -1)


@pytest.mark.parametrize(
    ("lease_ms", "record_ms"), [(100, 1_000), (15_000, 30_000), (600_000, 60_000)]
)
async def test_a_dead_worker_is_listed_for_two_leases_but_at_most_a_minute(
    pipe: Pipe, lease_ms: int, record_ms: int
) -> None:
    await WorkerRegistry(pipe, lease_ms).register("a", a_record())

    assert record_ms - 900 < await pipe.call("PTTL", NAMES.worker("a")) <= record_ms


async def test_a_clock_that_steps_back_keeps_no_dead_worker(pipe: Pipe) -> None:
    registry = WorkerRegistry(pipe, LEASE_MS)
    await registry.register("dead", a_record())
    await pipe.call("ZINCRBY", NAMES.workers, 3_600_000, "dead")

    await registry.register("live", a_record())

    scores = [float(await pipe.call("ZSCORE", NAMES.workers, id_)) for id_ in ("dead", "live")]
    assert scores[0] == scores[1]


async def test_a_worker_that_ends_removes_its_record_at_once(pipe: Pipe) -> None:
    registry = WorkerRegistry(pipe, LEASE_MS)
    await registry.register("a", a_record())
    await registry.register("b", a_record())

    await registry.unregister("a")

    assert ["b"] == [worker.id for worker in await registry.all()]
    assert 0 == await pipe.call("EXISTS", NAMES.worker("a"))


async def test_pages_list_each_worker_once_even_if_workers_end_meanwhile(pipe: Pipe) -> None:
    registry = WorkerRegistry(pipe, LEASE_MS)
    for number in range(25):
        await registry.register(f"worker-{number:02}", a_record())

    first = await registry.page(most=10)
    await registry.unregister(first.after)
    second = await registry.page(first.after, most=10)
    third = await registry.page(second.after, most=10)

    ids = [worker.id for page in (first, second, third) for worker in page.workers]
    assert [f"worker-{number:02}" for number in range(25)] == ids
    assert (25, 24, "") == (first.total, second.total, third.after)


async def test_a_full_registry_accepts_no_further_worker(pipe: Pipe) -> None:
    registry = WorkerRegistry(pipe, LEASE_MS)
    await registry.register("first", a_record())
    fill = "for n = 1, ARGV[1] do redis.call('ZADD', KEYS[1], '+inf', 'w' .. n) end"
    await pipe.call("EVAL", fill, 1, NAMES.workers, MAX_WORKERS - 1)

    assert MAX_WORKERS == await registry.register("one-too-many", a_record())
    assert MAX_WORKERS == await registry.register("first", a_record(jobs=3))
    assert await pipe.call("ZSCORE", NAMES.workers, "one-too-many") is None
    assert MAX_WORKERS == await pipe.call("ZCARD", NAMES.workers)


async def test_a_record_that_another_version_wrote_hides_no_other_worker(pipe: Pipe) -> None:
    registry = WorkerRegistry(pipe, LEASE_MS)
    await registry.register("a", a_record())
    await registry.register("b", a_record())
    for broken in (b"", b"no time", b"17 \xc1", b"17 \x91\x01"):
        await pipe.call("SET", NAMES.worker("a"), broken, "PX", LEASE_MS)

        assert ["b"] == [worker.id for worker in await registry.all()]


async def test_a_worker_serves_its_models_until_it_drains(pipe: Pipe) -> None:
    registry = WorkerRegistry(pipe, LEASE_MS)

    async def serves(model: str, **changed: Any) -> bool:
        await registry.register("a", a_record(**changed))
        [worker] = await registry.all()
        return worker.serves(model)

    assert await serves("fast")
    assert not await serves("slow")
    assert await serves("anything", models=())
    assert await serves("fast", state=WorkerState.PAUSED)
    assert not await serves("fast", state=WorkerState.DRAINING)


async def test_a_thousand_workers_cost_one_command_each_and_are_listed_with_two(pipe: Pipe) -> None:
    registry = WorkerRegistry(pipe, LEASE_MS)
    running = tuple(RunningRecord(f"resp_{n:035}", "fast", 1, 900, 300) for n in range(10))

    await pipe.call("CONFIG", "RESETSTAT")
    for number in range(1_000):
        await registry.register(f"{number:016x}", a_record(jobs=10, running=running))
    registering = await _sent(pipe)
    await pipe.call("CONFIG", "RESETSTAT")
    page = await registry.page()
    listing = await _sent(pipe)

    assert 1_000 == len(page.workers)
    assert {"evalsha": 1_000} == registering
    assert {"evalsha": 1, "mget": 1} == listing


async def _sent(pipe: Pipe) -> dict[str, int]:
    """Returns the numbers of commands that clients sent since the last reset, without INFO."""
    lines = (await pipe.call("INFO", "commandstats")).decode().splitlines()[1:]
    calls = {
        line.partition(":")[0].removeprefix("cmdstat_"): int(line.split("calls=")[1].split(",")[0])
        for line in lines
    }
    return {name: calls[name] for name in ("evalsha", "mget", "eval", "get") if name in calls}


async def test_an_unchanged_record_is_decoded_once(pipe: Pipe) -> None:
    registry = WorkerRegistry(pipe, LEASE_MS)
    await registry.register("a", a_record())
    await registry.register("b", a_record())
    first = await registry.all()
    await registry.register("b", a_record(jobs=1))

    second = await registry.all()

    assert first[0] is second[0]
    assert (0, 1) == (first[1].running, second[1].running)
