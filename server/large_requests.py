"""Processes large requests one at a time, while small ones pass without waiting.

Decoding expands a request to ten times its bytes in memory, and takes up to a fifth of a second of
the event loop. So at most one large request at a time is decoded, expanded and submitted, and its
memory is freed before the next one's turn.
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
    """The large requests of one process."""

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
            await asyncio.sleep(0)  # lets other ready tasks run first
            yield True
        finally:
            self._lock.release()
