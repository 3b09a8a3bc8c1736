"""Sends webhooks to the operator's receiver."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import structlog

from jobs.errors import Undecodable
from jobs.feedback import feedback_of
from runtime import tracing
from runtime.tracing import Kind

from .client import DeliveryResult
from .message import body, event_id, feedback_body, headers
from .verdict import SCHEDULE, Again, Dead, Sent, judge

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from jobs.cipher import Cipher
    from jobs.deliveries import Delivery
    from runtime.metrics import Family, Value
    from runtime.tracing import Span

    from .client import WebhookClient
    from .message import Receiver
    from .verdict import Verdict

log = structlog.get_logger()


class Message(NamedTuple):
    """The body of a webhook and its webhook id, which are the same in every attempt."""

    id: str
    body: bytes


def end_message(delivery: Delivery) -> Message:
    """Returns the message about a finished response."""
    id_ = event_id(delivery.response_id)
    return Message(id_, body(delivery.response_id, delivery.status, delivery.ended_ms))


def feedback_message(delivery: Delivery, cipher: Cipher | None) -> Message:
    """Returns the message about the feedback on a response. Each change has a webhook id.

    Raises: EncryptionKeyMissing, Undecodable.
    """
    response_id = delivery.response_id
    id_ = f"{event_id(response_id)}_{delivery.changes}"
    given = feedback_of(response_id, delivery.message, cipher)
    return Message(id_, feedback_body(id_, response_id, given, delivery.ended_ms))


class WebhookSender:
    """A sender of webhooks.

    `message` returns the message of a delivery, or raises Undecodable. `counts` is the metric of
    the attempts, by their result.
    """

    name = "webhook"

    def __init__(
        self,
        client: WebhookClient,
        receiver: Receiver,
        message: Callable[[Delivery], Message],
        counts: Family[Value],
        *,
        schedule: tuple[float, ...] = SCHEDULE,
    ) -> None:
        self._client = client
        self._receiver = receiver
        self._message = message
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
        with self._span(delivery) as span:
            result = await self._send(delivery)
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

    async def _send(self, delivery: Delivery) -> DeliveryResult:
        try:
            id_, payload = self._message(delivery)
        except Undecodable as error:
            return DeliveryResult(None, type(error).__name__)
        signed = headers(id_, delivery.now_ms, payload, self._receiver.keys)
        return await self._client.send(self._receiver.url, payload, signed)

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
