"""The webhooks that wait to be sent: claimed under a lease, and settled.

A webhook is put in line by the very script that ends its response (`finish`, `cancel`), so there is
no moment at which one could be lost between the two. `Queue.seen` may drop it.
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
    """One webhook under a lease. `tries` counts this one too; times in Unix ms of Redis's clock."""

    response_id: str
    status: str
    ended_ms: int
    tries: int
    now_ms: int


class Hooks:
    """The webhooks of all partitions."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    async def claim(self, partition: int, claim: str, count: int, lease_ms: int) -> list[Hook]:
        """Up to `count` that are due; `settle` each within the lease.

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
            Hook(id_.decode(), status.decode(), ended, tries, now)
            for id_, status, ended, tries, now in rows
        ]

    async def settle(
        self, response_id: str, claim: str, *, again_ms: int = -1, outcome: str = "sent"
    ) -> bool:
        """It is over, or due again after `again_ms`; False if it was somebody else's meanwhile.

        `outcome` is counted: "sent" or "dead". Raises: RedisTrouble.
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
