"""A limit of time on what a task waits for, again and again, that is moved for next to nothing.

`asyncio.timeout` makes a timer for each wait, and a stream has a wait for each token. Here one
timer runs to the first limit. When it rings, it is set anew if the limit was moved meanwhile, which
it nearly always was.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class Deadline:
    """Of the task that makes it. Enter it around each wait: `with deadline.at(when): await ...`."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - who waits is a task
        self._task = task
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._rings = 0.0
        self._limit: float | None = None  # while something is waited for
        self._cancelling = 0
        self._over = False

    def at(self, when: float) -> Self:
        """The limit of the next wait, in the loop's time. Raises TimeoutError when it is over."""
        self._limit = when
        return self

    def close(self) -> None:
        """Leaves no timer behind."""
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
        # As `asyncio.timeout`: a cancellation that is somebody else's stays one.
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
