"""The metrics of a server process."""

from __future__ import annotations

from typing import Final

from jobs.redis import redis_metrics
from runtime import process_metrics
from runtime.metrics import Metric, Registry
from runtime.process_metrics import ProcessMetrics

from .api.problem import STANDARD_CODES

SOCKETS: Final = Metric("holdline_sockets", "gauge", "open WebSockets")
STREAMS: Final = Metric("holdline_event_streams", "gauge", "open streams of server-sent events")
FOLLOWERS: Final = Metric(
    "holdline_followers",
    "gauge",
    "[followers](glossary.md#follower): clients that receive the events of a response",
    "the value does not fall when the number of connections falls",
)
FOLLOWERS_BEHIND: Final = Metric(
    "holdline_followers_behind",
    "gauge",
    "followers that read the log now, or wait until their clients accept more data",
    "the value stays high",
)
SLOW_SOCKETS: Final = Metric(
    "holdline_slow_sockets",
    "gauge",
    "WebSockets to which the server cannot write now, because their clients read too slowly",
    "the value stays high",
)
SUBMITTED: Final = Metric(
    "holdline_submitted_total",
    "counter",
    'accepted prompts. `fresh="false"` counts the prompts whose idempotency key was already known',
    labels=("fresh",),
)
DELIVERED: Final = Metric(
    "holdline_events_delivered_total",
    "counter",
    "events written to clients. `transport` is `websocket`, or `sse` for HTTP streams",
    labels=("transport",),
)
READS: Final = Metric(
    "holdline_log_reads_total",
    "counter",
    "reads of a response log. A server reads a log when a client begins to follow it (unless the "
    "notifications already contained the beginning of the log), after a gap in the notifications, "
    "and after a ping interval without a notification",
    "the value grows although there are no clients",
)
REFUSED: Final = Metric(
    "holdline_refused_total",
    "counter",
    "refused requests and messages. `code` is the error's `holdline.error_code`, or the error's "
    "`code` if there is no `holdline.error_code`",
    "the value for `queue_full`, or for a code with a 5xx status, grows",
    labels=("code",),
)
CLOSED_SLOW: Final = Metric(
    "holdline_sockets_closed_slow_total",
    "counter",
    "WebSockets that the server closed because it could not write to them for 30 s",
    "the value grows",
)
ALL: Final = (
    SOCKETS,
    STREAMS,
    FOLLOWERS,
    FOLLOWERS_BEHIND,
    SLOW_SOCKETS,
    SUBMITTED,
    DELIVERED,
    READS,
    REFUSED,
    CLOSED_SLOW,
)
# The metrics that servers and workers have in common.
COMMON: Final = (*process_metrics.ALL, *redis_metrics.ALL)


class Metrics:
    """The counters, gauges and histograms of one server process."""

    def __init__(self) -> None:
        registry = self.registry = Registry()
        self.sockets = registry.value(SOCKETS)
        self.streams = registry.value(STREAMS)
        self.followers = registry.value(FOLLOWERS)
        self.followers_behind = registry.value(FOLLOWERS_BEHIND)
        self.slow_sockets = registry.value(SLOW_SOCKETS)
        self.submitted = registry.values(SUBMITTED, "true", "false")
        delivered = registry.values(DELIVERED, "websocket", "sse")
        self.delivered_to_sockets = delivered.labels("websocket")
        self.delivered_to_streams = delivered.labels("sse")
        self.reads = registry.value(READS)
        self.refused = registry.values(REFUSED, *STANDARD_CODES)
        self.closed_slow = registry.value(CLOSED_SLOW)
        self.process = ProcessMetrics(registry)
        self.redis_connected = redis_metrics.add_to(registry)
