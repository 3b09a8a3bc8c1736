"""The parts of a server that all of its sockets share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobs.conversation_feed import FeedStore
    from server.config import Config
    from server.console.hub import Hub
    from server.large_requests import LargeRequests
    from server.live.conversation_feed import ConversationFeeds
    from server.live.relay import Relay
    from server.metrics import Metrics
    from server.request_log import RequestLog
    from server.responses import Responses

    from .backpressure import SlowConsumers
    from .unstored import ByteLimiter


@dataclass(slots=True)
class Services:
    """The parts of a server that all of its sockets share."""

    config: Config
    relay: Relay
    responses: Responses
    metrics: Metrics
    byte_limiter: ByteLimiter
    slow: SlowConsumers
    large_requests: LargeRequests
    requests: RequestLog
    consoles: Hub
    conversations: ConversationFeeds
    feeds: FeedStore
