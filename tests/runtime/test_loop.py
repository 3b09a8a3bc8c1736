"""Tests how background loops run repeatedly, stop, and handle errors."""

from __future__ import annotations

import asyncio

import structlog

from runtime.loop import Loop

NEVER = (3600.0, 3600.0)
AT_ONCE = (0.0, 0.0)


class Ticks:
    """Counts its calls, and raises the given errors in order."""

    def __init__(self, *errors: Exception) -> None:
        self.count = 0
        self._errors = list(errors)
        self._changed = asyncio.Event()

    async def __call__(self) -> None:
        self.count += 1
        self._changed.set()
        if self._errors:
            raise self._errors.pop(0)

    async def reach(self, count: int) -> None:
        async with asyncio.timeout(5):
            while self.count < count:
                self._changed.clear()
                await self._changed.wait()


async def test_a_loop_ticks_until_it_is_stopped() -> None:
    ticks = Ticks()
    async with Loop("a loop", ticks, AT_ONCE):
        await ticks.reach(3)
    seen = ticks.count
    await asyncio.sleep(0)
    assert seen == ticks.count
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "a loop"]


async def test_a_first_pause_comes_before_the_first_tick() -> None:
    ticks = Ticks()
    async with Loop("a loop", ticks, NEVER, first_pause=NEVER) as loop:
        await asyncio.sleep(0)
        assert ticks.count == 0
        loop.wake()
        await ticks.reach(1)


async def test_wake_ends_a_pause_and_is_not_lost_during_a_tick() -> None:
    ticks = Ticks()
    async with Loop("a loop", ticks, NEVER) as loop:
        await ticks.reach(1)
        loop.wake()
        await ticks.reach(2)
    counted = 0

    async def waking() -> None:
        nonlocal counted
        counted += 1
        if counted == 1:
            loop.wake()
        else:
            done.set()

    done = asyncio.Event()
    async with Loop("a loop", waking, NEVER) as loop, asyncio.timeout(5):
        await done.wait()


async def test_an_error_is_logged_without_its_message_and_the_loop_goes_on() -> None:
    ticks = Ticks(ValueError("the prompt"))
    with structlog.testing.capture_logs() as lines:
        async with Loop("a loop", ticks, AT_ONCE):
            await ticks.reach(2)
    (line,) = lines
    assert line["event"] == "unhandled error in background loop: loop continues"
    assert line["loop"] == "a loop"
    assert line["error"].startswith("ValueError at ")
    assert "the prompt" not in str(line)


async def test_an_ignored_error_is_not_logged() -> None:
    ticks = Ticks(ConnectionError())
    with structlog.testing.capture_logs() as lines:
        async with Loop("a loop", ticks, AT_ONCE, ignored=(ConnectionError,)):
            await ticks.reach(2)
    assert lines == []


async def test_stopping_a_loop_cancels_a_running_tick() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with Loop("a loop", hang, AT_ONCE):
        await started.wait()
    assert cancelled.is_set()


async def test_stopping_a_loop_that_was_not_started_does_nothing() -> None:
    await Loop("a loop", Ticks(), AT_ONCE).stop()
