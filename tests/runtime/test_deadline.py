from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from runtime.deadline import Deadline

LONG_SECONDS = 5  # longer than every deadline that is expected to end a wait


@contextlib.contextmanager
def limits() -> Iterator[tuple[Deadline, asyncio.AbstractEventLoop]]:
    deadline = Deadline()
    with contextlib.closing(deadline):
        yield deadline, asyncio.get_running_loop()


async def test_a_wait_beyond_the_deadline_times_out() -> None:
    with limits() as (deadline, loop):
        began = loop.time()
        with pytest.raises(TimeoutError), deadline.at(began + 0.05):
            await asyncio.sleep(LONG_SECONDS)
        assert 0.05 <= loop.time() - began < 4
        assert 0 == _cancelling()


async def test_an_extended_deadline_outlasts_the_old_timer() -> None:
    with limits() as (deadline, loop):
        with deadline.at(loop.time() + 0.02):
            # Do not await here: on a busy machine, even one loop iteration may exceed the
            # deadline.
            pass
        with deadline.at(loop.time() + 100):
            await asyncio.sleep(0.05)  # wait until the timer of the first deadline has fired
        with pytest.raises(TimeoutError), deadline.at(loop.time() + 0.02):
            await asyncio.sleep(LONG_SECONDS)


async def test_a_timer_that_fires_outside_of_a_wait_cancels_nothing() -> None:
    with limits() as (deadline, loop):
        with deadline.at(loop.time() + 0.02):
            # Do not await here: on a busy machine, even one loop iteration may exceed the
            # deadline.
            pass
        await asyncio.sleep(0.05)  # wait until the timer has fired
        with pytest.raises(TimeoutError), deadline.at(loop.time() + 0.02):
            await asyncio.sleep(LONG_SECONDS)


async def test_a_deadline_can_be_moved_to_an_earlier_time() -> None:
    with limits() as (deadline, loop):
        with deadline.at(loop.time() + 100):
            await asyncio.sleep(0)
        began = loop.time()
        with pytest.raises(TimeoutError), deadline.at(began + 0.02):
            await asyncio.sleep(LONG_SECONDS)
        assert loop.time() - began < 4


async def test_a_deadline_in_the_past_times_out_at_the_first_wait() -> None:
    with limits() as (deadline, loop), pytest.raises(TimeoutError), deadline.at(loop.time() - 1):
        await asyncio.sleep(LONG_SECONDS)


async def test_a_cancellation_from_outside_stays_a_cancellation() -> None:
    async def wait() -> None:
        with limits() as (deadline, loop), deadline.at(loop.time() + 0.01):
            try:
                await asyncio.sleep(LONG_SECONDS)
            finally:
                # Cancel in the same loop iteration in which the deadline expires.
                task.cancel()

    task = asyncio.create_task(wait())
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_other_errors_are_raised_unchanged() -> None:
    with limits() as (deadline, loop):
        with pytest.raises(LookupError), deadline.at(loop.time() + 1):
            raise LookupError
        assert 0 == _cancelling()


async def test_no_timer_is_left_behind() -> None:
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
