"""What has ended is kept in less room soon after; nobody waits for it."""

from __future__ import annotations

import asyncio

import pytest

from jobs.names import Partition
from jobs.redis.pipe import Pipe
from tests.system import wait_until
from tests.worker.harness import Desk
from worker import compactor


async def sealed(desk: Desk, pipe: Pipe) -> list[bool]:
    names = Partition(0)
    found = [await pipe.call("HEXISTS", names.job(id_), "sealed") for id_ in desk.ids]
    return list(map(bool, found))


async def all_sealed(desk: Desk, pipe: Pipe) -> None:
    async with asyncio.timeout(10):
        while not all(await sealed(desk, pipe)):  # noqa: ASYNC110 - Redis tells nobody
            await asyncio.sleep(0.02)


async def test_answers_are_sealed_soon_after_their_end(
    desk: Desk, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compactor, "SECONDS", (0.5, 0.5))
    views = [await desk.execute("mode=ok") for _ in range(3)]
    assert [False] * 3 == await sealed(desk, pipe)
    await all_sealed(desk, pipe)
    assert views == [await desk.view(id_) for id_ in desk.ids]


async def test_what_waits_is_sealed_at_the_end(
    desk: Desk, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compactor, "SECONDS", (60, 60))
    await desk.execute("mode=ok")
    await desk.means.sealer.__aexit__()
    assert [True] == await sealed(desk, pipe)


async def test_who_comes_when_much_waits_waits_for_its_own(
    desk: Desk, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compactor, "SECONDS", (60, 60))
    monkeypatch.setattr(compactor, "MOST_BYTES", 10_000)
    for _ in range(10):
        await desk.execute("mode=ok")
    assert {True, False} == set(await sealed(desk, pipe))


async def test_a_log_that_cannot_be_sealed_stops_no_other(
    desk: Desk, pipe: Pipe, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        async def compacted(self, head: list[bytes], rest: list[bytes]) -> list[bytes]:
            return [*head, *rest]

        async def store_compacted(self, entries: list[bytes]) -> None:
            raise ValueError(entries)

    await desk.means.sealer.seal(Broken(), list, [b"secret"])  # type: ignore[arg-type]  # broken
    await desk.execute("mode=ok")
    await wait_until(lambda: "not sealed" in capfd.readouterr().out)
    await all_sealed(desk, pipe)
