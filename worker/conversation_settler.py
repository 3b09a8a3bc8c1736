"""Appends the items of responses to their conversations if a process died before it appended them.

A server appends the input of a response, and a worker its output. If a process dies first, the
response stays pending in its conversation. Every one to two seconds, each worker looks for such
responses in its share of the partitions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from jobs.each_partition import each_partition
from jobs.errors import RedisTrouble
from jobs.settlement import settle
from runtime.loop import Loop

from .fleet_share import FleetShare

if TYPE_CHECKING:
    from .context import WorkerContext

PAUSE_SECONDS: Final = (1.0, 2.0)
# All workers together check each partition this often in the time of a pause.
CHECKS_PER_PAUSE: Final = 2

log = structlog.get_logger()


def conversation_settler(context: WorkerContext) -> Loop:
    """Returns the loop that settles conversations with overdue responses.

    The loop does not log RedisTrouble, because the worker already logs that Redis is unavailable.
    """
    store = context.queue.conversations
    share = FleetShare(context.config.shared.partitions, context.fleet, CHECKS_PER_PAUSE)

    async def settle_all(partition: int) -> None:
        for conversation_id, pending in await store.claim_unsettled(partition):
            if await settle(context.pipe, store, conversation_id, pending):
                log.info(
                    "appended missing items to a conversation", conversation_id=conversation_id
                )

    async def tick() -> None:
        await each_partition(share.next(), settle_all)

    return Loop("conversation settler", tick, PAUSE_SECONDS, ignored=(RedisTrouble,))
