"""Waits for Redis at the start of a server or a worker."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeVar

import structlog

from jobs.errors import RedisAway, RedisTrouble
from runtime.service_manager import report_waiting

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")

log = structlog.get_logger()


def report_unavailable(error: RedisAway) -> None:
    """Reports to the log and the service manager that the process waits for Redis."""
    log.warning(
        "Redis unavailable at start-up: retrying", error=type(error).__name__, reason=str(error)
    )
    report_waiting("Redis")


async def result_unless_set(event: asyncio.Event, awaitable: Awaitable[T]) -> T | None:
    """Returns the result of the awaitable, or None if the event is set first, which cancels it.

    Raises: the error of the awaitable.
    """
    result, stop = asyncio.ensure_future(awaitable), asyncio.create_task(event.wait())
    try:
        await asyncio.wait({result, stop}, return_when=asyncio.FIRST_COMPLETED)
        return result.result() if result.done() else None
    finally:
        for task in (result, stop):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, RedisTrouble):
                await task
