"""Visits all partitions, some of which may be on a master that is unavailable."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable


async def each_partition(
    partitions: Iterable[int], visit: Callable[[int], Awaitable[None]]
) -> None:
    """Calls a function for all partitions at once, and waits until all calls have ended.

    An unavailable partition keeps none of the others from being visited.

    Raises: the first error, after all calls have ended.
    """
    ended = await asyncio.gather(*map(visit, partitions), return_exceptions=True)
    for error in ended:
        if isinstance(error, BaseException):
            raise error
