"""Sends pushes: encrypted to the push services of browsers, and signed to the site for its apps."""

from __future__ import annotations

import contextlib
import hashlib
import random
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import structlog

from jobs.errors import RedisTrouble, SubscriptionsFull, Undecodable
from jobs.push_subscriptions import MAX_TTL_MS
from runtime import tracing
from runtime.tracing import Kind
from worker.webhooks.client import DeliveryResult
from worker.webhooks.message import event, headers
from worker.webhooks.verdict import Again, Dead, Sent, Spread, judge

from .encryption import authorization, encrypted
from .message import about, encoded, topic

if TYPE_CHECKING:
    from jobs.deliveries import Delivery
    from jobs.push_subscriptions import PushSubscriptions, Subscription
    from jobs.redis.pipe import Pipe
    from runtime.metrics import Family, Value
    from worker.webhooks.client import WebhookClient
    from worker.webhooks.message import Receiver
    from worker.webhooks.verdict import Verdict

    from .config import PushConfig

log = structlog.get_logger()

# The delay in seconds after each failed attempt. After the last one, a push is of little use.
SCHEDULE: Final = (5, 30, 300, 1800, 7200)
# The status with which the site says that a device no longer exists, and those of a push service.
GONE: Final = 410
GONE_AT_SERVICE: Final = (404, GONE)
# The statuses after which the same request may succeed later.
TEMPORARY: Final = (408, 425, 429)
DEVICE_TYPE: Final = "holdline.push"


class PushSender:
    """A sender of pushes. `counts` is the metric of the attempts, by their result.

    `services` sends to push services, and `site` to the `receiver` of webhooks, which may have a
    private address. `receiver` is None if no apps can subscribe.
    """

    name = "push"

    def __init__(
        self,
        pipe: Pipe,
        subscriptions: PushSubscriptions,
        config: PushConfig,
        services: WebhookClient,
        counts: Family[Value],
        *,
        site: WebhookClient | None = None,
        receiver: Receiver | None = None,
        schedule: tuple[float, ...] = SCHEDULE,
    ) -> None:
        self._pipe = pipe
        self._subscriptions = subscriptions
        self._config = config
        self._services = services
        self._counts = counts
        self._site = site
        self._receiver = receiver
        self._schedule = schedule

    async def attempt(self, delivery: Delivery) -> Verdict:
        """Tries to send a push, and logs and counts the result.

        The push of a response is not sent, but replaced by one push for each subscription.
        """
        if not delivery.target:
            return Spread(await self._subscriptions.ids(delivery.owner))
        left = delivery.ended_ms / 1000 + self._config.ttl_seconds - delivery.now_ms / 1000
        if delivery.tries > len(self._schedule) + 1 or left <= 0:
            return self._abandoned(delivery)
        try:
            subscription = await self._subscriptions.get(delivery.owner, delivery.target)
        except Undecodable as error:
            return self._failed(delivery, DeliveryResult(None, type(error).__name__))
        if subscription is None:
            return Dead("gone")  # the user has unsubscribed, or another user has the browser now
        with tracing.span(
            "push",
            kind=Kind.CLIENT,
            attributes={
                "http.request.method": "POST",
                # The path of the endpoint is a secret.
                "server.address": self._host(subscription),
                "holdline.response_id": delivery.response_id,
                "holdline.attempt": delivery.tries,
            },
        ) as span:
            result = await self._send(delivery, subscription, max(1, int(left)))
            span.set({"http.response.status_code": result.status})
            if not result.accepted:
                span.fail(str(result.status or result.reason))
        return await self._judged(delivery, subscription, result)

    async def _send(
        self, delivery: Delivery, subscription: Subscription, ttl: int
    ) -> DeliveryResult:
        message = await about(self._pipe, delivery, self._config.preview_characters)
        if subscription.device:
            if self._receiver is None or self._site is None:
                return DeliveryResult(None, "HOLDLINE_PUSH_DEVICES is not set")
            id_ = f"evt_{hashlib.sha256(delivery.id.encode()).hexdigest()[:35]}"
            data = {**message, "device": subscription.device}
            payload = encoded(event(id_, delivery.ended_ms, DEVICE_TYPE, data))
            signed = headers(id_, delivery.now_ms, payload, self._receiver.keys)
            return await self._site.send(self._receiver.url, payload, signed)
        key = self._config.keys.get(subscription.server_key)
        if key is None:
            return DeliveryResult(None, "HOLDLINE_VAPID_KEYS has no key of this subscription")
        now = delivery.now_ms // 1000
        return await self._services.send(
            subscription.endpoint,
            encrypted(encoded(message), subscription.p256dh, subscription.auth),
            {
                "Authorization": authorization(
                    subscription.endpoint, key, self._config.contact, now
                ),
                "Content-Encoding": "aes128gcm",
                "Content-Type": "application/octet-stream",
                "TTL": str(ttl),
                "Topic": topic(delivery.response_id),
                "Urgency": "normal",
            },
        )

    async def _judged(
        self, delivery: Delivery, subscription: Subscription, result: DeliveryResult
    ) -> Verdict:
        """Logs and counts a result, and renews or removes the subscription."""
        status = result.status
        if result.accepted:
            self._counts.labels("sent").inc()
            log.info("push sent", response_id=delivery.response_id, attempt=delivery.tries)
            await self._renew(delivery, subscription)
            return Sent()
        if status == GONE or (subscription.endpoint and status in GONE_AT_SERVICE):
            self._counts.labels("gone").inc()
            await self._subscriptions.remove(delivery.owner, delivery.target)
            log.info(
                "push subscription removed",
                response_id=delivery.response_id,
                status=status,
                reason=result.reason,
            )
            return Dead("gone")
        return self._failed(delivery, result)

    def _failed(self, delivery: Delivery, result: DeliveryResult) -> Verdict:
        """Logs and counts a failed attempt."""
        status = result.status
        self._counts.labels("failed").inc()
        verdict: Verdict = judge(
            status,
            tries=delivery.tries,
            jitter=random.random(),  # noqa: S311 - jitter need not be secure
            retry_after=result.retry_after,
            schedule=self._schedule,
        )
        if status is not None and status < 500 and status not in TEMPORARY:
            verdict = Dead()  # the same request would be refused again
        log.warning(
            "push attempt failed",
            response_id=delivery.response_id,
            status=status,
            reason=result.reason,
            attempt=delivery.tries,
            retry_ms=verdict.after_ms if isinstance(verdict, Again) else None,
        )
        return self._abandoned(delivery) if isinstance(verdict, Dead) else verdict

    async def _renew(self, delivery: Delivery, subscription: Subscription) -> None:
        """Extends the life of a subscription that was used. If this fails, it expires earlier."""
        expires = subscription.expires_ms
        ttl_ms = expires - delivery.now_ms if expires else MAX_TTL_MS
        with contextlib.suppress(RedisTrouble, SubscriptionsFull, Undecodable):
            if ttl_ms > 0:
                await self._subscriptions.renew(delivery.owner, delivery.target, ttl_ms)

    def _abandoned(self, delivery: Delivery) -> Dead:
        self._counts.labels("abandoned").inc()
        log.error(
            "push abandoned: no further attempts",
            response_id=delivery.response_id,
            attempt=delivery.tries,
        )
        return Dead()

    def _host(self, subscription: Subscription) -> str | None:
        if subscription.endpoint:
            return urlsplit(subscription.endpoint).hostname
        return urlsplit(self._receiver.url).hostname if self._receiver else None
