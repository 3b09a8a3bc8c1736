"""Sends webhooks that are due, each at least once.

Every worker has a dispatcher. The dispatcher claims a webhook with a lease that is longer than an
attempt can take, so two workers never send the same webhook at the same time. If a worker dies
before it has stored the result, another worker sends the webhook again with the same `webhook-id`.
The receiver recognizes the duplicate by this id.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

import structlog

from jobs.errors import RedisTrouble
from runtime import tracing
from runtime.logs import described
from runtime.loop import Loop, cancel_all
from runtime.tracing import Kind
from worker.fleet_share import FleetShare

from .message import SCHEDULE, Again, Dead, Sent, Verdict, body, headers, judge

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from jobs.hooks import Hook, Hooks
    from runtime.metrics import Family, Value
    from runtime.tracing import Span
    from worker.fleet_share import FleetSize

    from .client import WebhookClient
    from .message import Receiver

log = structlog.get_logger()

PAUSE_SECONDS: Final = (0.3, 0.8)
# All workers together check each partition this often in the time of a pause.
CHECKS_PER_PAUSE: Final = 2
MAX_SENDING: Final = 20
LEASE_MS: Final = 60_000
STOP_SECONDS: Final = 3.0


class WebhookDispatcher:
    """Claims and sends webhooks that are due. Use it as an async context manager.

    On exit it claims no more webhooks and waits up to `STOP_SECONDS` for running attempts. If an
    attempt does not finish, a worker sends the webhook again when its lease has expired. `counts`
    is the metric of the attempts, by their result.
    """

    def __init__(
        self,
        hooks: Hooks,
        client: WebhookClient,
        receiver: Receiver,
        partitions: range,
        fleet: FleetSize,
        counts: Family[Value],
        *,
        lease_ms: int = LEASE_MS,
        schedule: tuple[float, ...] = SCHEDULE,
    ) -> None:
        self._hooks = hooks
        self._client = client
        self._receiver = receiver
        self._share = FleetShare(partitions, fleet, CHECKS_PER_PAUSE)
        self._counts = counts
        self._lease_ms = lease_ms
        self._schedule = schedule
        self._sending: set[asyncio.Task[None]] = set()
        self._loop = Loop("webhook dispatcher", self._claim, PAUSE_SECONDS)

    async def __aenter__(self) -> Self:
        self._loop.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._loop.stop()
        await cancel_all(self._sending, grace=STOP_SECONDS)

    async def _claim(self) -> None:
        """Starts to send webhooks that are due.

        The dispatcher sends at most `MAX_SENDING` webhooks at once. It asks its share of the
        partitions one after the other, and skips those without a connection, which would delay the
        others.
        """
        for partition in self._share.next():
            if (room := MAX_SENDING - len(self._sending)) <= 0:
                return
            if self._hooks.is_reachable(partition):
                with contextlib.suppress(RedisTrouble):
                    await self._claim_from(partition, room)

    async def _claim_from(self, partition: int, room: int) -> None:
        claim = secrets.token_hex(8)
        for hook in await self._hooks.claim(partition, claim, room, self._lease_ms):
            task = asyncio.create_task(self._deliver(hook, claim), name="webhook")
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _deliver(self, hook: Hook, claim: str) -> None:
        with tracing.within(hook.trace, hook.response_id):
            await self._delivered(hook, claim)

    async def _delivered(self, hook: Hook, claim: str) -> None:
        try:
            await self._settle(hook, claim, await self._attempt(hook))
        except RedisTrouble as error:
            log.warning(
                "failed to store a webhook result: Redis unavailable",
                response_id=hook.response_id,
                error=type(error).__name__,
            )
        except Exception as error:  # noqa: BLE001 - the webhook is sent again later
            log.error(
                "unhandled error in webhook delivery: trying again later",
                response_id=hook.response_id,
                error=described(error),
            )

    async def _attempt(self, hook: Hook) -> Verdict:
        if hook.tries > len(self._schedule) + 1:
            # All scheduled attempts were made. The last result is missing, usually because the
            # worker died.
            return Dead()
        payload = body(hook.response_id, hook.status, hook.ended_ms)
        signed = headers(hook.response_id, hook.now_ms, payload, self._receiver.keys)
        with self._span(hook) as span:
            result = await self._client.send(self._receiver.url, payload, signed)
            span.set({"http.response.status_code": result.status})
            if not 200 <= (result.status or 0) < 300:
                span.fail(str(result.status or result.reason))
        verdict = judge(
            result.status,
            tries=hook.tries,
            jitter=random.random(),  # noqa: S311 - jitter need not be secure
            retry_after=result.retry_after,
            schedule=self._schedule,
        )
        self._counts.labels("sent" if isinstance(verdict, Sent) else "failed").inc()
        if isinstance(verdict, Sent):
            log.info("webhook sent", response_id=hook.response_id, attempt=hook.tries)
        else:
            log.warning(
                "webhook attempt failed",
                response_id=hook.response_id,
                status=result.status,
                reason=result.reason,
                attempt=hook.tries,
                retry_ms=verdict.after_ms if isinstance(verdict, Again) else None,
            )
        return verdict

    def _span(self, hook: Hook) -> AbstractContextManager[Span]:
        """Returns a context that records one attempt to send a webhook."""
        return tracing.span(
            "webhook",
            kind=Kind.CLIENT,
            attributes={
                "http.request.method": "POST",
                # The path and the query of the URL may contain a secret.
                "server.address": urlsplit(self._receiver.url).hostname,
                "holdline.response_id": hook.response_id,
                "holdline.attempt": hook.tries,
            },
        )

    async def _settle(self, hook: Hook, claim: str, verdict: Verdict) -> None:
        match verdict:
            case Sent():
                await self._hooks.settle(hook.response_id, claim)
            case Again(after_ms):
                await self._hooks.settle(hook.response_id, claim, again_ms=after_ms)
            case Dead():
                self._counts.labels("abandoned").inc()
                log.error(
                    "webhook abandoned: no further attempts",
                    response_id=hook.response_id,
                    attempt=hook.tries,
                )
                await self._hooks.settle(hook.response_id, claim, outcome="dead")
