"""The server's Prometheus metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator


class UnlockedCounter(Collector):
    """A Prometheus counter for the hot path: a single thread increments `count` without a lock."""

    def __init__(self, name: str, documentation: str, registry: CollectorRegistry) -> None:
        self.count = 0
        self._about = name, documentation
        registry.register(self)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yields the current value; prometheus_client calls this method for each scrape."""
        yield CounterMetricFamily(*self._about, value=self.count)


class Metrics:
    """The counters and gauges of one server process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.sockets = Gauge("holdline_sockets", "Open WebSockets.", registry=self.registry)
        self.followers = Gauge(
            "holdline_followers", "Client subscriptions to responses.", registry=self.registry
        )
        self.tasks = Gauge(
            "holdline_tasks", "asyncio tasks in this process.", registry=self.registry
        )
        self.slow_sockets = Gauge(
            "holdline_slow_sockets",
            "WebSockets that are not writable now, because their clients read too slowly.",
            registry=self.registry,
        )
        self.submitted = Counter(
            "holdline_submitted",
            "Accepted prompts. fresh=false: the idempotency key was known.",
            ["fresh"],
            registry=self.registry,
        )
        self.delivered = UnlockedCounter(
            "holdline_events_delivered", "Events written to WebSockets.", self.registry
        )
        self.reads = Counter(
            "holdline_log_reads",
            "Reads of response logs: at the start, after lost notifications, and as checks.",
            registry=self.registry,
        )
        self.refused = Counter(
            "holdline_refused",
            "Refused requests and messages, by error code.",
            ["code"],
            registry=self.registry,
        )
        self.closed_slow = Counter(
            "holdline_sockets_closed_slow",
            "WebSockets closed because their clients stopped reading.",
            registry=self.registry,
        )
