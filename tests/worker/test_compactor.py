"""Tests that finished logs are compacted soon after their end without delaying any client."""

from __future__ import annotations

import asyncio
import gc

import pytest

from jobs.names import Partition
from jobs.redis.pipe import Pipe
from tests.system import wait_until
from tests.worker.conftest import MakeHarness
from tests.worker.harness import Harness
from worker import compactor


async def compacted(harness: Harness, pipe: Pipe) -> list[bool]:
    names = Partition(0)
    found = [await pipe.call("HEXISTS", names.job(id_), "compacted") for id_ in harness.ids]
    return list(map(bool, found))


async def all_compacted(harness: Harness, pipe: Pipe) -> None:
    async def all_are() -> bool:
        return all(await compacted(harness, pipe))

    await wait_until(all_are, 10)


async def test_logs_are_compacted_soon_after_their_end(harness: Harness, pipe: Pipe) -> None:
    views = [await harness.execute("mode=ok") for _ in range(3)]
    await all_compacted(harness, pipe)
    assert views == [await harness.view(id_) for id_ in harness.ids]


async def test_queued_logs_are_compacted_at_exit(
    make_harness: MakeHarness, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compactor, "PAUSE_SECONDS", (60, 60))
    async with make_harness() as harness:
        for _ in range(3):
            await harness.execute("mode=ok")
        assert [False] * 3 == await compacted(harness, pipe)
    assert [True] * 3 == await compacted(harness, pipe)


async def test_a_log_beyond_the_bound_of_waiting_bytes_is_compacted_at_once(
    make_harness: MakeHarness, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compactor, "PAUSE_SECONDS", (60, 60))
    monkeypatch.setattr(compactor, "MAX_WAITING_BYTES", 10_000)
    async with make_harness() as harness:
        for _ in range(10):
            await harness.execute("mode=ok")
        assert {True, False} == set(await compacted(harness, pipe))


async def test_a_failed_compaction_does_not_stop_the_others(
    harness: Harness, pipe: Pipe, capfd: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        async def compacted(self, head: list[bytes], rest: list[bytes]) -> list[bytes]:
            return [*head, *rest]

        async def store_compacted(self, entries: list[bytes]) -> None:
            raise ValueError(entries)

    await harness.context.compactor.compact(Broken(), list, [b"secret"])  # type: ignore[arg-type]  # broken
    await harness.execute("mode=ok")
    await wait_until(lambda: "unhandled error in log compaction" in capfd.readouterr().out)
    await all_compacted(harness, pipe)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
async def test_a_stop_between_two_logs_leaves_no_coroutine_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cancels the loop when the first log has been prepared and the second has not."""
    second = asyncio.Event()
    stored: list[list[bytes]] = []

    class Slow:
        async def compacted(self, head: list[bytes], rest: list[bytes]) -> list[bytes]:
            if rest == [b"second"]:
                second.set()
                await asyncio.Event().wait()
            return [*head, *rest]

        async def store_compacted(self, entries: list[bytes]) -> None:
            stored.append(entries)

    monkeypatch.setattr(compactor, "PAUSE_SECONDS", (0.0, 0.0))
    async with compactor.Compactor() as running:
        for rest in ([b"first"], [b"second"]):
            await running.compact(Slow(), list, rest)  # type: ignore[arg-type]  # no Redis
        await second.wait()
    gc.collect()
    assert stored == []


async def test_a_step_cancelled_before_it_runs_leaves_no_coroutine_behind() -> None:
    begun: list[str] = []

    async def step() -> None:
        begun.append("step")

    task = asyncio.create_task(compactor._attempted(step))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [] == begun
    # If a coroutine was abandoned, the garbage collector reports it, and the report fails the test.
    gc.collect()
