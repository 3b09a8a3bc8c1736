"""Claims webhooks that wait to be sent, and settles them.

The script that ends a response (`finish`, `cancel`) also queues its webhook, so that no webhook can
be lost between the two steps. `Queue.seen` may drop a webhook.
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
    """One webhook under a lease.

    `tries` includes the current attempt. Times are in Unix milliseconds of Redis's clock.
    """

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
        """Returns up to `count` due webhooks; call `settle` for each of them within the lease.

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
        """Finishes a webhook, or makes it due again after `again_ms` if that is not negative.

        `outcome`, "sent" or "dead", is counted when it finishes. Returns False if the webhook is
        finished already or another claim holds it.

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
