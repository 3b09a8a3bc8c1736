from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from worker.deadline import Deadline


@contextlib.contextmanager
def limits() -> Iterator[tuple[Deadline, asyncio.AbstractEventLoop]]:
    deadline = Deadline()
    with contextlib.closing(deadline):
        yield deadline, asyncio.get_running_loop()


async def test_what_takes_longer_is_over() -> None:
    with limits() as (deadline, loop):
        began = loop.time()
        with pytest.raises(TimeoutError), deadline.at(began + 0.05):
            await asyncio.sleep(5)
        assert 0.05 <= loop.time() - began < 1
        assert 0 == _cancelling()


async def test_a_limit_is_of_one_wait_however_often_the_timer_was_set() -> None:
    with limits() as (deadline, loop):
        for _ in range(4):  # each within its own limit, and all beyond the first one
            with deadline.at(loop.time() + 0.05):
                await asyncio.sleep(0.03)
        await asyncio.sleep(0.1)  # rings while nothing is waited for
        with pytest.raises(TimeoutError), deadline.at(loop.time() + 0.02):
            await asyncio.sleep(5)


async def test_a_limit_may_be_moved_forward() -> None:
    with limits() as (deadline, loop):
        with deadline.at(loop.time() + 100):
            await asyncio.sleep(0)
        began = loop.time()
        with pytest.raises(TimeoutError), deadline.at(began + 0.02):
            await asyncio.sleep(5)
        assert loop.time() - began < 1


async def test_a_limit_that_is_past_is_over_at_the_first_wait() -> None:
    with limits() as (deadline, loop), pytest.raises(TimeoutError), deadline.at(loop.time() - 1):
        await asyncio.sleep(5)


async def test_a_cancellation_by_somebody_else_stays_one() -> None:
    async def wait() -> None:
        with limits() as (deadline, loop), deadline.at(loop.time() + 0.01):
            try:
                await asyncio.sleep(5)
            finally:
                task.cancel()  # in the same turn as the limit

    task = asyncio.create_task(wait())
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_another_error_is_not_hidden() -> None:
    with limits() as (deadline, loop):
        with pytest.raises(LookupError), deadline.at(loop.time() + 1):
            raise LookupError
        assert 0 == _cancelling()


async def test_nothing_is_left_behind() -> None:
    with limits() as (deadline, loop):
        with deadline.at(loop.time() + 100):
            await asyncio.sleep(0)
        timer = deadline._timer
    assert timer is not None
    assert timer.cancelled()


def _cancelling() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()
