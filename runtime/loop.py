"""Background loops: one task that calls a function again and again until it is stopped."""

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
    """Cancels a task and waits for its end; a cancellation of the caller still takes effect.

    Raises: the task's exception, except its own cancellation.
    """
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def cancel_all(tasks: Iterable[asyncio.Task[None]], *, grace: float = 0.0) -> None:
    """Waits `grace` seconds for the tasks, cancels those still running and waits for their end.

    Errors of the tasks are dropped: each task handles its own.
    """
    owned = set(tasks)
    if owned and grace:
        await asyncio.wait(owned, timeout=grace)
    for task in owned:
        task.cancel()
    await asyncio.gather(*owned, return_exceptions=True)


class Loop:
    """Calls `tick` until it is stopped; use it as an async context manager.

    `pause` is the range of seconds between the end of one tick and the start of the next, drawn at
    random so that processes that started together do not stay in step. Entering starts the loop;
    leaving cancels it, a running tick included, and waits for its end.

    An error of a tick does not end the loop. Errors of the classes in `ignored` are expected, for
    instance an unavailable Redis that is reported elsewhere. Of any other error, only the class and
    the place are logged, because its message may hold a prompt or a key.

    `first_pause` is the range before the first tick; None starts with a tick. `wake` ends the
    current pause at once.
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
        """Starts the loop, which must not be running."""
        self._task = asyncio.create_task(self._run(), name=self.name)

    async def stop(self) -> None:
        """Cancels the loop and waits for its end; does nothing if it was not started."""
        if self._task is not None:
            task, self._task = self._task, None
            await cancel_and_wait(task)

    def wake(self) -> None:
        """Ends the current pause; during a tick, skips the pause after it."""
        self._awake.set()

    async def _run(self) -> None:
        if self._first_pause is not None:
            await self._wait(self._first_pause)
        while True:
            try:
                await self._tick()
            except self._ignored:
                pass
            except Exception as error:  # noqa: BLE001 - the edge of a loop: the next tick may succeed
                log.error(
                    "unhandled error in background loop: loop continues",
                    loop=self.name,
                    error=described(error),
                )
            await self._wait(self._pause)

    async def _wait(self, pause: tuple[float, float]) -> None:
        seconds = random.uniform(*pause)  # noqa: S311 - jitter
        try:
            async with asyncio.timeout(seconds):
                await self._awake.wait()
        except TimeoutError:
            pass
        self._awake.clear()
