"""Assigns deliveries to workers, and records the results of their attempts.

A delivery is a message about a response: the webhook of an ended response, the webhook of the
feedback on a response, or a push to the devices of the response's owner. The script that ends a
response (`finish` or `cancel`) or stores feedback (`rate`) also queues the deliveries, in one
atomic step. So no delivery is lost between the two. `Queue.seen` may drop deliveries.
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
    FEEDBACK = "feedback"

    def queue(self, names: Partition) -> str:
        """Returns the key of the sorted set with the due times of the unfinished deliveries."""
        return {
            Kind.WEBHOOK: names.hooks,
            Kind.PUSH: names.pushes,
            Kind.FEEDBACK: names.feedbacks,
        }[self]

    def key(self, names: Partition, id_: str) -> str:
        """Returns the key of the hash with one delivery."""
        keys = {
            Kind.WEBHOOK: names.hook,
            Kind.PUSH: names.push,
            Kind.FEEDBACK: names.feedback,
        }
        return keys[self](id_)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery that a worker may send until its lease expires.

    `id` is the id of the response. The id of a push to one subscription also contains a colon and
    the id of the subscription. `tries` counts the attempts, including the current one. `ended_ms`
    is the time at which the response has ended or the feedback was changed. This time and `now_ms`
    are Unix times in milliseconds, by the clock of Redis. `trace` is the context of the response's
    trace, or "". `owner` is the owner of the response, or "" for the webhook of an ended response.

    `message` is the stored feedback of which a webhook reports, and `changes` tells how often the
    feedback on the response has changed. They are empty for other deliveries.
    """

    id: str
    status: str
    ended_ms: int
    tries: int
    now_ms: int
    trace: str = ""
    owner: str = ""
    message: bytes = b""
    changes: int = 0

    @property
    def response_id(self) -> str:
        """The id of the response."""
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
            Delivery(
                id_.decode(),
                status.decode(),
                ended,
                tries,
                now,
                trace.decode(),
                owner.decode(),
                message,
                changes,
            )
            for id_, status, ended, tries, now, trace, owner, message, changes in rows
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
