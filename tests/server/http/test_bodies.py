"""Tests that all readers share one encoded response body, and that unread bodies are limited."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import cast

import pytest

from server.api.problem import Problem
from server.http import bodies as bodies_module
from server.http.bodies import Bodies, Body
from server.responses import Responses
from tests.system import wait_until


@pytest.fixture
def bodies(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bodies]:
    monkeypatch.setattr(bodies_module, "MAX_UNREAD_BYTES", 10)
    bodies = Bodies(cast("Responses", None))
    yield bodies
    assert (0, {}) == (bodies._unread, bodies._shared)


class Reader:
    """Reads a body of six bytes and holds it until the test calls `leave`."""

    def __init__(self, bodies: Bodies, key: str, *, large: bool = True) -> None:
        self.made = 0
        self.body: Body | None = None
        self._go = asyncio.Event()
        self._task = asyncio.create_task(self._read(bodies, key, large=large))

    async def _make(self) -> Body:
        self.made += 1
        await asyncio.sleep(0)
        return Body(b"123456")

    async def _read(self, bodies: Bodies, key: str, *, large: bool) -> None:
        async with bodies.shared(key, self._make, large=large) as self.body:
            await self._go.wait()

    async def reads(self) -> None:
        await wait_until(lambda: self.body)

    async def leave(self) -> None:
        self._go.set()
        await self._task


async def test_concurrent_readers_share_one_body(bodies: Bodies) -> None:
    readers = [Reader(bodies, "a") for _ in range(9)]
    for reader in readers:
        await reader.reads()

    assert 1 == sum(reader.made for reader in readers)
    assert 1 == len({id(reader.body) for reader in readers})
    assert 6 == bodies._unread
    for reader in readers:
        await reader.leave()
    later = Reader(bodies, "a")
    await later.reads()
    assert 1 == later.made
    await later.leave()


async def test_large_bodies_wait_at_the_limit_of_unread_bytes_and_small_ones_do_not(
    bodies: Bodies,
) -> None:
    first, second = Reader(bodies, "a"), Reader(bodies, "b")
    await first.reads()
    await second.reads()
    third, small = Reader(bodies, "c"), Reader(bodies, "d", large=False)
    await small.reads()
    assert third.body is None
    await small.leave()
    await first.leave()
    await third.reads()
    await second.leave()
    await third.leave()


async def test_a_body_is_refused_if_no_earlier_one_is_read_in_time(
    bodies: Bodies, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Reader(bodies, "a"), Reader(bodies, "b")
    await first.reads()
    await second.reads()
    monkeypatch.setattr(bodies_module, "WAIT_SECONDS", 0.02)
    refused = [Reader(bodies, "c") for _ in range(3)]
    for reader in refused:
        with pytest.raises(Problem) as problem:
            await reader.leave()
        assert (503, "busy") == (problem.value.status, problem.value.code)
    await first.leave()
    await second.leave()


async def test_a_failed_body_is_built_again_for_the_next_reader(bodies: Bodies) -> None:
    async def fail() -> Body:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        async with bodies.shared("a", fail, large=True):
            pass
    reader = Reader(bodies, "a")
    await reader.reads()
    await reader.leave()
