"""Takes over responses whose lease has expired or whose time in the queue is over.

The workers share the partitions, and try to rescue each of them several times in the duration of a
lease. Two workers may call the script at once, because it assigns each response to only one worker.
The script queues a response again if another attempt is allowed. The worker ends all other rescued
responses itself. Ending a response needs no model call, so it does not count towards the
concurrency limit.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final, Self

import structlog

from jobs.errors import Fenced, Gone, RedisTrouble, UnknownResponse
from runtime import tracing
from runtime.logs import described
from runtime.loop import cancel_all

from .ending import close
from .spans import closing_span

if TYPE_CHECKING:
    from jobs.lease_store import RescuePace
    from jobs.replies import Grant
    from runtime.tracing import Span

    from .context import WorkerContext

log = structlog.get_logger()

MAX_CLOSING: Final = 100
_CAUSES: Final = {"cancelled": "cancelled", "expired": "queue_timeout"}


class Rescue:
    """Rescues responses of lost workers. Use it as an async context manager.

    On exit it cancels the tasks that are still ending responses.
    """

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._closing: set[asyncio.Task[None]] = set()
        self._dead: dict[int, int] = {}  # the last known length of each dead list

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await cancel_all(self._closing)

    async def rescue(self, partition: int, pace: RescuePace) -> None:
        """Rescues the responses of one partition, unless a worker did so shortly before.

        Responses that may have another attempt are queued again. For each of the others, a task is
        started that ends the response.

        Raises: RedisTrouble.
        """
        if len(self._closing) >= MAX_CLOSING:
            return
        leases = self._context.queue.leases
        requeued, grants = await leases.rescue(partition, secrets.token_hex(8), pace)
        counts = self._context.metrics.rescued
        counts.labels("requeued").inc(requeued)
        counts.labels("ended").inc(len(grants))
        if requeued or grants:
            log.warning(
                "rescued jobs: their workers were lost, or their retries were due",
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
                action="run holdline dead list",
            )
        self._dead[partition] = dead

    async def _close(self, grant: Grant) -> None:
        cause = "cancelled" if grant.cancelled else _CAUSES.get(grant.reason, "worker_lost")
        with tracing.within(grant.trace, grant.response_id), closing_span(grant, cause) as span:
            await self._closed(grant, cause, span)

    async def _closed(self, grant: Grant, cause: str, span: Span) -> None:
        response_id = grant.response_id
        try:
            await close(self._context, grant, cause)
        except (Fenced, Gone, UnknownResponse):
            pass  # another worker has ended the response
        except RedisTrouble as error:
            # A rescued response has only a short lease. When the lease expires, a worker rescues
            # the response again.
            span.fail(type(error).__name__)
            log.warning(
                "postponed ending a response: Redis unavailable",
                response_id=response_id,
                error=type(error).__name__,
            )
        except Exception as error:  # noqa: BLE001 - other jobs must still be rescued
            span.fail(type(error).__name__)
            log.error(
                "unhandled error while ending a response: trying again later",
                response_id=response_id,
                error=described(error),
            )
