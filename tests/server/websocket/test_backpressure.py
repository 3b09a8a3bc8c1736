"""One timer looks after all sockets that cannot be written to, and there is none without them."""

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
    """A transport whose client takes a byte between two looks, or none at all."""

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
    """What is called at the end, once: with whether it was stuck."""

    def caught_up(*, stuck: bool) -> None:
        said.append(stuck)

    return caught_up


async def test_each_is_looked_at_until_it_goes_on_and_then_no_more() -> None:
    slow, said = SlowConsumers(), list[bool]()
    transports = [Full(2), Full(4), Full(3)]
    consumer = [slow.watch(transport, told(said)) for transport in transports]
    await wait_until(lambda: not len(slow))

    assert [2, 4, 3] == [transport.looks for transport in transports]
    assert [False] * 3 == said
    assert all(one.over.done() for one in consumer)
    assert slow._timer is None


async def test_there_is_one_timer_for_all_and_it_comes_back_with_the_next() -> None:
    slow, said = SlowConsumers(), list[bool]()
    slow.watch(Full(2), told(said))
    timer = slow._timer
    slow.watch(Full(2), told(said))
    assert timer is slow._timer
    await wait_until(lambda: slow._timer is None)

    slow.watch(Full(3), told(said))
    await wait_until(lambda: not len(slow))
    assert 3 == len(said)


async def test_one_that_takes_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backpressure_module, "STUCK_SECONDS", 0.05)
    slow, said, stuck = SlowConsumers(), list[bool](), Full(9, takes=0)
    slow.watch(stuck, told(said))
    await wait_until(lambda: said)

    assert ([True], True, 0) == (said, stuck.aborted, len(slow))


async def test_one_that_is_over_is_looked_at_no_more() -> None:
    slow, said, over = SlowConsumers(), list[bool](), Full(9)
    consumer = slow.watch(over, told(said))
    slow.leave(consumer)
    await wait_until(lambda: slow._timer is None)

    assert (1, [], 0, True) == (over.looks, said, len(slow), consumer.over.done())


async def test_who_was_cancelled_while_waiting_for_it_harms_nobody() -> None:
    slow, said = SlowConsumers(), list[bool]()
    consumer = slow.watch(Full(3), told(said))
    consumer.over.cancel()
    await wait_until(lambda: said)
    assert [False] == said
