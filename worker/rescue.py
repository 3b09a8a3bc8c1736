"""Takes over responses whose lease has expired or that have waited in the queue for too long.

Every worker does this a few times per lease. Two workers may do it at once, because the script
gives each response to only one of them. The script requeues a response that may be retried. All
others are ended here. That needs no model call, so it does not count towards the concurrency limit.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final, Self

import structlog

from jobs.errors import Fenced, Gone, RedisTrouble, UnknownResponse
from runtime.logs import described
from runtime.loop import cancel_all

from .ending import close

if TYPE_CHECKING:
    from jobs.replies import Grant

    from .context import WorkerContext

log = structlog.get_logger()

MAX_CLOSING: Final = 100
_CAUSES: Final = {"cancelled": "cancelled", "expired": "queue_timeout"}


class Rescue:
    """Rescues responses; use it as an async context manager.

    The tasks that end responses are cancelled on exit.
    """

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._closing: set[asyncio.Task[None]] = set()
        self._dead: dict[int, int] = {}  # the last known length of each dead list

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await cancel_all(self._closing)

    async def rescue(self, partition: int) -> None:
        """Requeues the lost responses of a partition, and starts a task to end each of the others.

        Raises: RedisTrouble.
        """
        if len(self._closing) >= MAX_CLOSING:
            return
        requeued, grants = await self._context.queue.rescue(partition, secrets.token_hex(8))
        if requeued or grants:
            log.warning(
                "jobs rescued: worker lost or retry due",
                partition=partition,
                requeued=requeued,
                closing=len(grants),
            )
        for grant in grants:
            task = asyncio.create_task(self._close(grant), name="rescue")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        await self._report_dead(partition)

    async def _report_dead(self, partition: int) -> None:
        dead = await self._context.queue.count_dead(partition)
        if dead > self._dead.get(partition, 0):
            log.error(
                "dead list has grown: its responses need an operator",
                partition=partition,
                entries=dead,
                action="run python -m admin.dead list",
            )
        self._dead[partition] = dead

    async def _close(self, grant: Grant) -> None:
        cause = "cancelled" if grant.cancelled else _CAUSES.get(grant.reason, "worker_lost")
        response_id = grant.response_id
        try:
            await close(self._context, grant, cause)
        except (Fenced, Gone, UnknownResponse):
            pass  # another worker was faster
        except RedisTrouble as error:
            # A rescue has a short lease, so the response is rescued again.
            log.warning(
                "postponed ending a response: Redis unavailable",
                response_id=response_id,
                error=type(error).__name__,
            )
        except Exception as error:  # noqa: BLE001 - the edge of a job: the others must be rescued
            log.error(
                "unhandled error while ending a response",
                response_id=response_id,
                error=described(error),
            )
