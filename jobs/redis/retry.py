"""Asking Redis again, for as long as that can still help."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from jobs.errors import RedisAway, RedisFull

T = TypeVar("T")

# A Redis that restarts with its file, fails over or is given memory is back within this time.
RETRY_SECONDS: Final = 120.0
_PAUSES: Final = (0.05, 1.0)


async def retry(action: Callable[[], Awaitable[T]], *, seconds: float = RETRY_SECONDS) -> T:
    """What the action returns, once Redis is there and has room; it must be one to be repeated.

    Raises: the last RedisAway or RedisFull when `seconds` are over; other errors at once.
    """
    until = time.monotonic() + seconds
    pause, most = _PAUSES
    while True:
        try:
            return await action()
        except (RedisAway, RedisFull):
            if time.monotonic() + pause > until:
                raise
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        pause = min(pause * 2, most)
