"""Runs background loops. Each loop is a task that calls a function until it is stopped."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final, Self

import structlog

from .logs import described

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

log = structlog.get_logger()

_NO_ERRORS: Final[tuple[type[Exception], ...]] = ()


async def cancel_and_wait(task: asyncio.Task[None]) -> None:
    """Cancels a task and waits for its end.

    Unlike `await task`, this function does not hide a cancellation of its caller during the wait.

    Raises: the exception with which the task ended, unless it is the requested cancellation.
    """
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def cancel_all(tasks: Iterable[asyncio.Task[None]], *, grace: float = 0.0) -> None:
    """Waits up to `grace` seconds for tasks to end, then cancels the others and waits for them.

    Errors of the tasks are ignored, because each task handles its own errors.
    """
    owned = set(tasks)
    if owned and grace:
        await asyncio.wait(owned, timeout=grace)
    for task in owned:
        task.cancel()
    await asyncio.gather(*owned, return_exceptions=True)


class Loop:
    """Calls the function `tick` repeatedly until it is stopped.

    Use the loop as an async context manager: entering starts it, and leaving cancels it, even
    during a tick, and waits for its end. `pause` is a range of seconds. Each pause between two
    ticks is drawn from it at random, so processes that started together do not tick together.

    An error in a tick does not end the loop. The loop ignores errors of the classes in `ignored`,
    such as an unavailable Redis that other code reports. For any other error, it logs only the
    class and the place, because the message may contain a prompt or a key.

    `first_pause` is the range for the pause before the first tick. If it is None, the first tick
    starts at once.
    """

    def __init__(
        self,
        name: str,
        tick: Callable[[], Awaitable[None]],
        pause: tuple[float, float],
        *,
        first_pause: tuple[float, float] | None = None,
        ignored: tuple[type[Exception], ...] = _NO_ERRORS,
    ) -> None:
        self.name = name
        self._tick = tick
        self._pause = pause
        self._first_pause = first_pause
        self._ignored = ignored
        self._awake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def start(self) -> None:
        """Starts the loop. Do not call it while the loop is running."""
        self._task = asyncio.create_task(self._run(), name=self.name)

    async def stop(self) -> None:
        """Cancels the loop and waits for its end. Does nothing if the loop was not started."""
        if self._task is not None:
            task, self._task = self._task, None
            await cancel_and_wait(task)

    def wake(self) -> None:
        """Ends the current pause at once. During a tick, skips the pause that would follow."""
        self._awake.set()

    async def _run(self) -> None:
        if self._first_pause is not None:
            await self._wait(self._first_pause)
        while True:
            try:
                await self._tick()
            except self._ignored:
                pass
            except Exception as error:  # noqa: BLE001 - the next tick may succeed
                log.error(
                    "unhandled error in background loop: loop continues",
                    loop=self.name,
                    error=described(error),
                )
            await self._wait(self._pause)

    async def _wait(self, pause: tuple[float, float]) -> None:
        seconds = random.uniform(*pause)  # noqa: S311 - jitter is no secret
        try:
            async with asyncio.timeout(seconds):
                await self._awake.wait()
        except TimeoutError:
            pass
        self._awake.clear()
