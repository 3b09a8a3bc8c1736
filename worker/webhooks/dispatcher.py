"""Sends deliveries that are due, which are webhooks or pushes, each at least once.

Every worker has a dispatcher for each kind of delivery. The dispatcher claims a delivery with a
lease that is longer than an attempt can take, so two workers never send the same delivery at the
same time. If a worker dies before it has stored the result, another worker sends the delivery
again. The receiver of a webhook recognizes the duplicate by its `webhook-id`, and a browser by the
tag of its notification.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING, Final, Protocol, Self

import structlog

from jobs.errors import RedisTrouble
from runtime import tracing
from runtime.logs import described
from runtime.loop import Loop, cancel_all
from worker.fleet_share import FleetShare

from .verdict import Again, Dead, Sent, Spread

if TYPE_CHECKING:
    from jobs.deliveries import Deliveries, Delivery
    from worker.fleet_share import FleetSize

    from .verdict import Verdict

log = structlog.get_logger()

PAUSE_SECONDS: Final = (0.3, 0.8)
# All workers together check each partition this often in the time of a pause.
CHECKS_PER_PAUSE: Final = 2
MAX_SENDING: Final = 20
LEASE_MS: Final = 60_000
STOP_SECONDS: Final = 3.0


class Sender(Protocol):
    """Sends the deliveries of one kind. `name` names the tasks."""

    name: str

    async def attempt(self, delivery: Delivery) -> Verdict:
        """Tries to send a delivery, logs and counts the result, and returns what happens next."""


class Dispatcher:
    """Claims and sends deliveries that are due. Use it as an async context manager.

    On exit it claims no more deliveries and waits up to `STOP_SECONDS` for running attempts. If an
    attempt does not finish, a worker sends the delivery again when its lease has expired.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        sender: Sender,
        partitions: range,
        fleet: FleetSize,
        *,
        lease_ms: int = LEASE_MS,
    ) -> None:
        self._deliveries = deliveries
        self._sender = sender
        self._share = FleetShare(partitions, fleet, CHECKS_PER_PAUSE)
        self._lease_ms = lease_ms
        self._sending: set[asyncio.Task[None]] = set()
        self._loop = Loop(f"{sender.name} dispatcher", self._claim, PAUSE_SECONDS)

    async def __aenter__(self) -> Self:
        self._loop.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._loop.stop()
        await cancel_all(self._sending, grace=STOP_SECONDS)

    async def _claim(self) -> None:
        """Starts to send deliveries that are due.

        The dispatcher sends at most `MAX_SENDING` deliveries at once. It asks its share of the
        partitions one after the other, and skips those without a connection, which would delay the
        others.
        """
        for partition in self._share.next():
            if (room := MAX_SENDING - len(self._sending)) <= 0:
                return
            if self._deliveries.is_reachable(partition):
                with contextlib.suppress(RedisTrouble):
                    await self._claim_from(partition, room)

    async def _claim_from(self, partition: int, room: int) -> None:
        claim = secrets.token_hex(8)
        for delivery in await self._deliveries.claim(partition, claim, room, self._lease_ms):
            task = asyncio.create_task(self._deliver(delivery, claim), name=self._sender.name)
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _deliver(self, delivery: Delivery, claim: str) -> None:
        with tracing.within(delivery.trace, delivery.response_id):
            await self._delivered(delivery, claim)

    async def _delivered(self, delivery: Delivery, claim: str) -> None:
        try:
            await self._settle(delivery, claim, await self._sender.attempt(delivery))
        except RedisTrouble as error:
            log.warning(
                "failed to store a delivery result: Redis unavailable",
                response_id=delivery.response_id,
                error=type(error).__name__,
            )
        except Exception as error:  # noqa: BLE001 - the delivery is sent again later
            log.error(
                "unhandled error in a delivery: trying again later",
                response_id=delivery.response_id,
                error=described(error),
            )

    async def _settle(self, delivery: Delivery, claim: str, verdict: Verdict) -> None:
        match verdict:
            case Sent():
                await self._deliveries.settle(delivery, claim)
            case Again(after_ms):
                await self._deliveries.settle(delivery, claim, again_ms=after_ms)
            case Spread(targets):
                await self._deliveries.spread(delivery, claim, targets)
            case Dead(outcome):
                await self._deliveries.settle(delivery, claim, outcome=outcome)
