"""The metrics of a process's connections to Redis. They exist once in a process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobs.errors import RedisAway, RedisFull, RedisNotReady, RedisRefused
from runtime.metrics import Distribution, Family, Metric, Value

if TYPE_CHECKING:
    from runtime.metrics import Registry

_SECONDS: Final = (0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)

CONNECTED: Final = Metric(
    "holdline_redis_connected_processes",
    "gauge",
    "processes that are connected to Redis, in a cluster to every master",
    "the value is below `holdline_processes`",
)
ROUND_TRIP: Final = Metric(
    "holdline_redis_round_trip_seconds",
    "histogram",
    "time from sending a command to Redis until its reply was read",
    "the 99th percentile is above 0.1",
    buckets=_SECONDS,
)
FAILURES: Final = Metric(
    "holdline_redis_failures_total",
    "counter",
    "commands that failed. `error_type` is `RedisAway`, `RedisNotReady`, `RedisFull` or "
    "`RedisRefused`, [as in the log](#log-lines)",
    "the value grows",
    labels=("error_type",),
)
NOTIFICATION_LAG: Final = Metric(
    "holdline_notification_lag_seconds",
    "histogram",
    "[lag of notifications](#the-lag-of-notifications): the time of a message from this process "
    "through Redis back to this process, measured every two seconds",
    "the 99th percentile is above 0.5",
    buckets=_SECONDS,
)
ALL: Final = (CONNECTED, ROUND_TRIP, FAILURES, NOTIFICATION_LAG)

round_trips: Final = Family(ROUND_TRIP, lambda: Distribution(ROUND_TRIP.buckets))
notification_lags: Final = Family(NOTIFICATION_LAG, lambda: Distribution(NOTIFICATION_LAG.buckets))
failures: Final = Family(FAILURES, Value)
for _error in (RedisAway, RedisNotReady, RedisFull, RedisRefused):
    # Prometheus does not see the first increase of a series that appears with it.
    failures.labels(_error.__name__)


def add_to(registry: Registry) -> Value:
    """Adds the metrics to a process's registry, and returns the gauge `CONNECTED`."""
    for family in (round_trips, failures, notification_lags):
        registry.adopt(family)
    return registry.value(CONNECTED)
