"""Processes large requests one at a time, while small ones pass without waiting.

A decoded request takes ten times its size in memory, and decoding blocks the event loop for up to a
fifth of a second. So only one large request at a time is decoded, expanded and submitted, and its
memory is freed before the next one is decoded.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from .api.problem import Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MAX_SMALL_BYTES: Final = 16_384
WAIT_SECONDS: Final = 10.0


class LargeRequests:
    """Serializes the large requests of one process."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def turn(self, size: int) -> AsyncIterator[bool]:
        """Waits for the turn of a request of `size` bytes; yields True if it is large.

        Raises: Problem.
        """
        if size <= MAX_SMALL_BYTES:
            yield False
            return
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._lock.acquire()
        except TimeoutError:
            raise Problem(
                503, "busy", "Too many large requests are waiting. Try again.", retry_after=1
            ) from None
        try:
            # Lets other ready tasks run first.
            await asyncio.sleep(0)
            yield True
        finally:
            self._lock.release()
