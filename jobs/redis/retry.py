"""Retries an operation while Redis is unavailable, not ready or out of memory."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from jobs.errors import RedisAway, RedisFull

T = TypeVar("T")

_PAUSES: Final = (0.05, 1.0)


async def retry(action: Callable[[], Awaitable[T]], *, seconds: float) -> T:
    """Calls `action` until it succeeds, for up to `seconds`, and returns its result.

    `action` must be safe to repeat. Raises: the last RedisAway or RedisFull after `seconds`; any
    other error of `action` at once.
    """
    until = time.monotonic() + seconds
    pause, longest = _PAUSES
    while True:
        try:
            return await action()
        except (RedisAway, RedisFull):
            left = until - time.monotonic()
            if left <= 0:
                raise
        await asyncio.sleep(min(pause * random.uniform(0.5, 1.0), left))  # noqa: S311
        pause = min(pause * 2, longest)
