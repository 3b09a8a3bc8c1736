"""Starts the dispatchers of the deliveries that are configured."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from jobs.deliveries import Deliveries, Kind

from .webhooks.client import WebhookClient
from .webhooks.dispatcher import Dispatcher
from .webhooks.sender import WebhookSender, end_message, feedback_message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from jobs.deliveries import Delivery

    from .context import WorkerContext
    from .webhooks.dispatcher import Sender
    from .webhooks.sender import Message


@contextlib.asynccontextmanager
async def dispatchers(context: WorkerContext) -> AsyncIterator[None]:
    """Runs a dispatcher for each kind of delivery that is configured."""
    config, pipe, metrics = context.config, context.pipe, context.metrics
    partitions = config.shared.partitions
    async with contextlib.AsyncExitStack() as stack:

        async def dispatch(kind: Kind, sender: Sender) -> None:
            deliveries = Deliveries(pipe, kind)
            dispatcher = Dispatcher(deliveries, sender, partitions, context.fleet)
            await stack.enter_async_context(dispatcher)

        site = None
        if config.receiver is not None:
            site = WebhookClient(allow_private=config.receiver.allow_private)
            await stack.enter_async_context(site)
            messages: dict[Kind, Callable[[Delivery], Message]] = {
                Kind.WEBHOOK: end_message,
                Kind.FEEDBACK: lambda delivery: feedback_message(delivery, pipe.cipher),
            }
            for kind, message in messages.items():
                sender = WebhookSender(site, config.receiver, message, metrics.webhooks)
                await dispatch(kind, sender)
        if config.push.enabled:
            # The import of the cryptography library is slow, so workers without pushes skip it.
            from jobs.push_subscriptions import PushSubscriptions

            from .push.sender import PushSender

            services = WebhookClient(allow_private=config.push.allow_private)
            await stack.enter_async_context(services)
            pushes = PushSender(
                pipe,
                PushSubscriptions(pipe, partitions),
                config.push,
                services,
                metrics.pushes,
                site=site,
                receiver=config.receiver,
            )
            await dispatch(Kind.PUSH, pushes)
        yield
