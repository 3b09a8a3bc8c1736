"""Sends webhooks to the operator's receiver."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog

from runtime import tracing
from runtime.tracing import Kind

from .message import body, event_id, headers
from .verdict import SCHEDULE, Again, Dead, Sent, judge

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from jobs.deliveries import Delivery
    from runtime.metrics import Family, Value
    from runtime.tracing import Span

    from .client import WebhookClient
    from .message import Receiver
    from .verdict import Verdict

log = structlog.get_logger()


class WebhookSender:
    """A sender of webhooks. `counts` is the metric of the attempts, by their result."""

    name = "webhook"

    def __init__(
        self,
        client: WebhookClient,
        receiver: Receiver,
        counts: Family[Value],
        *,
        schedule: tuple[float, ...] = SCHEDULE,
    ) -> None:
        self._client = client
        self._receiver = receiver
        self._counts = counts
        self._schedule = schedule

    async def attempt(self, delivery: Delivery) -> Verdict:
        """Tries to send a webhook, and logs and counts the result."""
        verdict = await self._attempt(delivery)
        if isinstance(verdict, Dead):
            self._counts.labels("abandoned").inc()
            log.error(
                "webhook abandoned: no further attempts",
                response_id=delivery.response_id,
                attempt=delivery.tries,
            )
        return verdict

    async def _attempt(self, delivery: Delivery) -> Verdict:
        if delivery.tries > len(self._schedule) + 1:
            # All scheduled attempts were made. The last result is missing, usually because the
            # worker died.
            return Dead()
        payload = body(delivery.response_id, delivery.status, delivery.ended_ms)
        id_ = event_id(delivery.response_id)
        signed = headers(id_, delivery.now_ms, payload, self._receiver.keys)
        with self._span(delivery) as span:
            result = await self._client.send(self._receiver.url, payload, signed)
            span.set({"http.response.status_code": result.status})
            if not result.accepted:
                span.fail(str(result.status or result.reason))
        verdict = judge(
            result.status,
            tries=delivery.tries,
            jitter=random.random(),  # noqa: S311 - jitter need not be secure
            retry_after=result.retry_after,
            schedule=self._schedule,
        )
        self._counts.labels("sent" if isinstance(verdict, Sent) else "failed").inc()
        if isinstance(verdict, Sent):
            log.info("webhook sent", response_id=delivery.response_id, attempt=delivery.tries)
        else:
            log.warning(
                "webhook attempt failed",
                response_id=delivery.response_id,
                status=result.status,
                reason=result.reason,
                attempt=delivery.tries,
                retry_ms=verdict.after_ms if isinstance(verdict, Again) else None,
            )
        return verdict

    def _span(self, delivery: Delivery) -> AbstractContextManager[Span]:
        """Returns a context that records one attempt to send a webhook."""
        return tracing.span(
            "webhook",
            kind=Kind.CLIENT,
            attributes={
                "http.request.method": "POST",
                # The path and the query of the URL may contain a secret.
                "server.address": urlsplit(self._receiver.url).hostname,
                "holdline.response_id": delivery.response_id,
                "holdline.attempt": delivery.tries,
            },
        )
