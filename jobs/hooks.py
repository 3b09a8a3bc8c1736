"""Assigns waiting webhooks to workers, and records the results of their delivery.

The script that ends a response (`finish` or `cancel`) also queues its webhook, in one atomic step.
So no webhook is lost between the two. `Queue.seen` may drop a webhook.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .names import Partition, partition_of
from .scripts import calls

if TYPE_CHECKING:
    from .redis.pipe import Pipe


@dataclass(frozen=True, slots=True)
class Hook:
    """One webhook that a worker may send until its lease expires.

    `tries` counts the delivery attempts, including the current one. `ended_ms` and `now_ms` are
    Unix times in milliseconds, by the clock of Redis. `trace` is the context of the response's
    trace, or "".
    """

    response_id: str
    status: str
    ended_ms: int
    tries: int
    now_ms: int
    trace: str = ""


class Hooks:
    """The queued webhooks of all partitions."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    def is_reachable(self, partition: int) -> bool:
        """Returns True if there is a connection to the Redis that has the partition."""
        return self._pipe.is_connected_for(Partition(partition).hooks)

    async def claim(self, partition: int, claim: str, count: int, lease_ms: int) -> list[Hook]:
        """Assigns up to `count` due webhooks to the caller. `claim` is a random id for the claim.

        The caller must call `settle` for each webhook before its lease expires.

        Raises: RedisTrouble.
        """
        names = Partition(partition)
        rows = await self._pipe.run(
            calls.claim_webhooks(
                hooks_key=names.hooks,
                claimed_key=names.claimed(claim),
                prefix=names.prefix,
                claim=claim,
                lease_ms=lease_ms,
                count=count,
            )
        )
        return [
            Hook(id_.decode(), status.decode(), ended, tries, now, trace.decode())
            for id_, status, ended, tries, now, trace in rows
        ]

    async def settle(
        self, response_id: str, claim: str, *, again_ms: int = -1, outcome: str = "sent"
    ) -> bool:
        """Removes a finished webhook, or makes it due again after `again_ms` milliseconds.

        If `again_ms` is negative, the webhook is finished and `outcome`, which is "sent" or "dead",
        is counted. Returns False if the webhook was finished before or is held by another claim.

        Raises: RedisTrouble.
        """
        names = Partition(partition_of(response_id))
        call = calls.settle_webhook(
            hook_key=names.hook(response_id),
            hooks_key=names.hooks,
            prefix=names.prefix,
            id=response_id,
            claim=claim,
            again_ms=again_ms,
            outcome=outcome,
        )
        return bool(await self._pipe.run(call))
