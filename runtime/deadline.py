"""A timeout for many consecutive waits of one task, with one timer for all of them.

A stream has several waits, in a worker one for each token, and `asyncio.timeout` would create a
timer for each wait. Here a single timer runs until the limit of the first wait. If the limit has
moved when the timer fires, which is the usual case, the timer is started again for the new limit.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class Deadline:
    """A timeout for the task that creates it.

    Enter the deadline around each wait: `with deadline.at(when): await ...`. At the time `when`,
    the wait is cancelled and the `with` statement raises TimeoutError.
    """

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        self._task = task
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._rings = 0.0
        self._limit: float | None = None  # the limit of the current wait; None between two waits
        self._cancelling = 0
        self._over = False

    def at(self, when: float) -> Self:
        """Sets the limit of the next wait, as a time of the event loop, and returns `self`."""
        self._limit = when
        return self

    def close(self) -> None:
        """Cancels the timer of this deadline."""
        if self._timer is not None:
            self._timer.cancel()

    def __enter__(self) -> None:
        self._cancelling = self._task.cancelling()
        if self._limit is not None and (self._timer is None or self._limit < self._rings):
            self._set(self._limit)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._limit = None
        if not self._over:
            return
        self._over = False
        # Like `asyncio.timeout`, this method does not suppress a cancellation from another source.
        if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _set(self, when: float) -> None:
        self.close()
        self._rings = when
        self._timer = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._limit is None:
            return
        if self._limit > self._rings:
            self._set(self._limit)
        else:
            self._over = True
            self._task.cancel()
