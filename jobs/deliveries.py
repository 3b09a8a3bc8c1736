"""Assigns deliveries to workers, and records the results of their attempts.

A delivery is a message about an ended response: a webhook, or a push to the devices of the
response's owner. The script that ends a response (`finish` or `cancel`) also queues its deliveries,
in one atomic step. So no delivery is lost between the two. `Queue.seen` may drop deliveries.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from .names import Partition, names_of
from .scripts import calls

if TYPE_CHECKING:
    from .redis.pipe import Pipe


class Kind(StrEnum):
    """The kinds of deliveries. Each kind has a queue of its own in each partition."""

    WEBHOOK = "hook"
    PUSH = "push"

    def queue(self, names: Partition) -> str:
        """Returns the key of the sorted set with the due times of the unfinished deliveries."""
        return names.hooks if self is Kind.WEBHOOK else names.pushes

    def key(self, names: Partition, id_: str) -> str:
        """Returns the key of the hash with one delivery."""
        return names.hook(id_) if self is Kind.WEBHOOK else names.push(id_)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery that a worker may send until its lease expires.

    `id` is the id of the response. The id of a push to one subscription also contains a colon and
    the id of the subscription. `tries` counts the attempts, including the current one. `ended_ms`
    and `now_ms` are Unix times in milliseconds, by the clock of Redis. `trace` is the context of
    the response's trace, or "". `owner` is the owner of the response, or "" for a webhook.
    """

    id: str
    status: str
    ended_ms: int
    tries: int
    now_ms: int
    trace: str = ""
    owner: str = ""

    @property
    def response_id(self) -> str:
        """The id of the response that has ended."""
        return self.id.partition(":")[0]

    @property
    def target(self) -> str:
        """The id of the subscription, or "" for a webhook and for a push to all subscriptions."""
        return self.id.partition(":")[2]


class Deliveries:
    """The queued deliveries of one kind, in all partitions. The methods raise RedisTrouble."""

    def __init__(self, pipe: Pipe, kind: Kind = Kind.WEBHOOK) -> None:
        self._pipe = pipe
        self._kind = kind

    def is_reachable(self, partition: int) -> bool:
        """Returns True if there is a connection to the Redis that has the partition."""
        return self._pipe.is_connected_for(self._kind.queue(Partition(partition)))

    async def claim(self, partition: int, claim: str, count: int, lease_ms: int) -> list[Delivery]:
        """Assigns up to `count` due deliveries to the caller. `claim` is a random id for the claim.

        The caller must call `settle` or `spread` for each delivery before its lease expires.
        """
        names = Partition(partition)
        rows = await self._pipe.run(
            calls.claim_deliveries(
                queue_key=self._kind.queue(names),
                claimed_key=names.claimed(claim),
                prefix=names.prefix,
                kind=self._kind.value,
                claim=claim,
                lease_ms=lease_ms,
                count=count,
            )
        )
        return [
            Delivery(id_.decode(), status.decode(), ended, tries, now, trace.decode(), who.decode())
            for id_, status, ended, tries, now, trace, who in rows
        ]

    async def settle(
        self, delivery: Delivery, claim: str, *, again_ms: int = -1, outcome: str = "sent"
    ) -> bool:
        """Removes a finished delivery, or makes it due again after `again_ms` milliseconds.

        If `again_ms` is negative, the delivery is finished and `outcome`, such as "sent" or "dead",
        is counted. Returns False if the delivery was finished before or is held by another claim.
        """
        names = names_of(delivery.response_id)
        call = calls.settle_delivery(
            delivery_key=self._kind.key(names, delivery.id),
            queue_key=self._kind.queue(names),
            prefix=names.prefix,
            kind=self._kind.value,
            id=delivery.id,
            claim=claim,
            again_ms=again_ms,
            outcome=outcome,
        )
        return bool(await self._pipe.run(call))

    async def spread(self, delivery: Delivery, claim: str, targets: list[str]) -> bool:
        """Replaces a push of a response by one push for each of the subscriptions `targets`.

        Returns False if the push no longer exists or is held by another claim.
        """
        names = names_of(delivery.response_id)
        call = calls.spread_push(
            push_key=names.push(delivery.id),
            queue_key=names.pushes,
            prefix=names.prefix,
            id=delivery.id,
            claim=claim,
            targets=targets,
        )
        return bool(await self._pipe.run(call))
