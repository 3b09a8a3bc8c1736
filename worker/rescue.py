"""What time or death has left behind: requeued by a script, or ended here.

Every worker looks, a few times in each lease. Two at once do no harm: each step of the script is
taken by one of them. What may not be tried again gets its last event outside of the limit on
concurrency, because it needs no model.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final, Self

import structlog

from jobs.errors import Fenced, Gone, RedisTrouble, UnknownResponse
from runtime.logs import described

from .ending import close

if TYPE_CHECKING:
    from jobs.replies import Grant

    from .context import WorkerContext

log = structlog.get_logger()

MOST_AT_ONCE: Final = 100
_CAUSES: Final = {"cancelled": "cancelled", "expired": "queue_timeout"}


class Rescue:
    """Looks after one Redis; use it as an async context manager, and `look` in every beat."""

    def __init__(self, means: WorkerContext) -> None:
        self._means = means
        self._ending: set[asyncio.Task[None]] = set()
        self._dead: dict[int, int] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._ending:
            task.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def look(self, partition: int) -> None:
        """What was lost in this partition waits again, or its last event is being written.

        Raises: RedisTrouble.
        """
        if len(self._ending) >= MOST_AT_ONCE:
            return
        requeued, grants = await self._means.queue.rescue(partition, secrets.token_hex(8))
        if requeued or grants:
            log.warning("rescued", partition=partition, requeued=requeued, to_end=len(grants))
        dead = await self._means.queue.count_dead(partition)
        if dead > self._dead.get(partition, 0):
            log.warning(
                "dead list", partition=partition, entries=dead, look="python -m admin.dead list"
            )
        self._dead[partition] = dead
        for grant in grants:
            task = asyncio.create_task(self._end(grant), name="rescue")
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _end(self, grant: Grant) -> None:
        cause = "cancelled" if grant.cancelled else _CAUSES.get(grant.reason, "worker_lost")
        try:
            await close(self._means, grant, cause)
        except (Fenced, Gone, UnknownResponse):
            pass  # Another rescuer was faster.
        except RedisTrouble as error:
            # Its lease is short: whoever looks next is handed it again.
            log.warning("not ended", response=grant.response_id, why=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - the edge of a job: the others must be rescued
            log.warning("not ended", response=grant.response_id, error=described(error))
