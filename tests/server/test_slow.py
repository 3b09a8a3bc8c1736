"""One timer looks after all sockets that cannot be written to, and there is none without them."""

from __future__ import annotations

import pytest

from server import slow as slow_module
from server.slow import Slow
from tests.system import wait_until


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_module, "STEP_SECONDS", 0.001)


class Stuck:
    def __init__(self, looks: int) -> None:
        self.left = looks

    def look(self, now: float) -> bool:
        assert now > 0
        self.left -= 1
        return self.left <= 0


async def test_each_is_looked_at_until_it_goes_on_and_then_no_more() -> None:
    slow, sockets = Slow(), [Stuck(1), Stuck(3), Stuck(2)]
    for socket in sockets:
        slow.watch(socket)
    await wait_until(lambda: not len(slow))

    assert [0, 0, 0] == [socket.left for socket in sockets]
    assert slow._timer is None


async def test_there_is_one_timer_for_all_and_it_comes_back_with_the_next() -> None:
    slow = Slow()
    slow.watch(Stuck(1))
    timer = slow._timer
    slow.watch(Stuck(1))
    assert timer is slow._timer
    await wait_until(lambda: slow._timer is None)

    again = Stuck(2)
    slow.watch(again)
    await wait_until(lambda: not len(slow))
    assert 0 == again.left


async def test_one_that_is_over_is_looked_at_no_more() -> None:
    slow, over = Slow(), Stuck(9)
    slow.watch(over)
    slow.leave(over)
    await wait_until(lambda: slow._timer is None)

    assert (9, 0) == (over.left, len(slow))
