"""Tests that a single timer watches all blocked sockets, and runs only while one is blocked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from server.websocket import backpressure as backpressure_module
from server.websocket.backpressure import SlowConsumers
from tests.system import wait_until


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backpressure_module, "STEP_SECONDS", 0.001)


class Full(asyncio.WriteTransport):
    """A transport whose client reads `takes` bytes between two checks, possibly none."""

    def __init__(self, left: int, *, takes: int = 1) -> None:
        super().__init__()
        self.left = left
        self.looks = 0
        self.takes = takes
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        self.looks += 1
        self.left = max(self.left - self.takes, 0)
        return self.left

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


def told(said: list[bool]) -> Any:
    """Returns a final callback, which records whether the socket was stuck."""

    def caught_up(*, stuck: bool) -> None:
        said.append(stuck)

    return caught_up


async def test_a_slow_consumer_is_watched_until_it_catches_up() -> None:
    slow, said = SlowConsumers(), list[bool]()
    transports = [Full(2), Full(4), Full(3)]
    consumer = [slow.watch(transport, told(said)) for transport in transports]
    await wait_until(lambda: not len(slow))

    assert [2, 4, 3] == [transport.looks for transport in transports]
    assert [False] * 3 == said
    assert all(one.over.done() for one in consumer)
    assert slow._timer is None


async def test_all_slow_consumers_share_one_timer_that_restarts_on_demand() -> None:
    slow, said = SlowConsumers(), list[bool]()
    slow.watch(Full(2), told(said))
    timer = slow._timer
    slow.watch(Full(2), told(said))
    assert timer is slow._timer
    await wait_until(lambda: slow._timer is None)

    slow.watch(Full(3), told(said))
    await wait_until(lambda: not len(slow))
    assert 3 == len(said)


async def test_a_consumer_that_reads_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backpressure_module, "STUCK_SECONDS", 0.05)
    slow, said, stuck = SlowConsumers(), list[bool](), Full(9, takes=0)
    slow.watch(stuck, told(said))
    await wait_until(lambda: said)

    assert ([True], True, 0) == (said, stuck.aborted, len(slow))


async def test_a_consumer_that_left_is_no_longer_watched() -> None:
    slow, said, over = SlowConsumers(), list[bool](), Full(9)
    consumer = slow.watch(over, told(said))
    slow.leave(consumer)
    await wait_until(lambda: slow._timer is None)

    assert (1, [], 0, True) == (over.looks, said, len(slow), consumer.over.done())


async def test_a_cancelled_wait_for_a_slow_consumer_causes_no_error() -> None:
    slow, said = SlowConsumers(), list[bool]()
    consumer = slow.watch(Full(3), told(said))
    consumer.over.cancel()
    await wait_until(lambda: said)
    assert [False] == said
