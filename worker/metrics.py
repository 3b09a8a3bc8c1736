"""The metrics of a worker process.

The names `gen_ai_…` and their labels are those of the OpenTelemetry semantic conventions for
generative AI, in the form that Prometheus gives them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from jobs.redis import redis_metrics
from runtime.metrics import OTHER, Metric, Registry
from runtime.process_metrics import ProcessMetrics

from .outcome import CAUSES
from .recent_counter import RecentCounter

if TYPE_CHECKING:
    from collections.abc import Collection

_SHORT: Final = (0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_WAIT: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
_CALL: Final = tuple(0.01 * 2**power for power in range(17))  # up to 11 minutes
# The values of `step` and of `reason`.
RECOVERY_STEPS: Final = ("reattach", "continue", "restart")
TAKEN, DELETED = "taken", "deleted"
_TOKENS: Final = tuple(4.0**power for power in range(14))
_GEN_AI: Final = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
# Every call uses the formats of OpenAI, whoever runs the endpoint.
_OPERATION: Final = ("chat", "openai")

RUNNING: Final = Metric("holdline_running_jobs", "gauge", "jobs that the worker runs")
CONCURRENCY: Final = Metric(
    "holdline_concurrency_jobs",
    "gauge",
    "the maximum number of jobs that the worker runs (`HOLDLINE_CONCURRENCY`)",
    "`holdline_running_jobs` equals it while jobs wait",
)
HELD: Final = Metric(
    "holdline_held_bytes",
    "gauge",
    "estimated memory of the decoded prompts of the running jobs",
    "the value comes near `HOLDLINE_MAX_HELD_BYTES`",
)
QUEUE_WAIT: Final = Metric(
    "holdline_queue_wait_seconds",
    "histogram",
    "time from the submission of a prompt to the start of its first attempt",
    "the 95th percentile is above what clients accept",
    labels=("model",),
    buckets=_WAIT,
)
FIRST_TOKEN: Final = Metric(
    "holdline_time_to_first_token_seconds",
    "histogram",
    "time from the submission of a prompt to the first token of the attempt that ended its "
    "response, so it includes the time in the queue and earlier attempts",
    "the 95th percentile is above what clients accept",
    labels=("model",),
    buckets=_WAIT,
)
RESPONSES: Final = Metric(
    "holdline_responses_total",
    "counter",
    "ended responses. `status` is `completed`, `incomplete`, `failed` or `cancelled`",
    'the share of `status="failed"` grows',
    labels=("model", "status"),
)
DURATION: Final = Metric(
    "holdline_response_duration_seconds",
    "histogram",
    "time from the submission of a prompt to the end of its response",
    labels=("model",),
    buckets=_WAIT,
)
ATTEMPTS: Final = Metric(
    "holdline_attempts_total",
    "counter",
    "ended attempts. `cause` says [why the attempt "
    "ended](protocol-reference.md#why-a-response-failed-or-waits), or is `stop`, `length`, "
    "`content_filter`, `cancelled` or `steered`",
    "the value for a cause with `upstream_` grows",
    labels=("model", "cause"),
)
RECOVERIES: Final = Metric(
    "holdline_recoveries_total",
    "counter",
    "attempts after an interrupted one. `step` is `reattach` (the rest of an [answer in the "
    "background](models.md#answers-in-the-background) was read), `continue` (the model [continued "
    "the text](models.md#continuing-a-text)) or `restart` (the answer began again)",
    '`step="restart"` grows: workers die, or models fail in the middle of answers',
    labels=("model", "step"),
)
RESCUED: Final = Metric(
    "holdline_rescued_total",
    "counter",
    "jobs that this worker [rescued](glossary.md#rescue). `result` is `requeued` (the job waits "
    "again; also a job whose retry was due) or `ended` (no attempt was left, or the wait was over)",
    "the value grows faster than the model's failures explain",
    labels=("result",),
)
DEAD: Final = Metric(
    "holdline_dead_total",
    "counter",
    "jobs that this worker put on the [dead list](recover.md#the-dead-list)",
    "the value grows",
)
LEASES_LOST: Final = Metric(
    "holdline_leases_lost_total",
    "counter",
    "jobs that this worker had to stop. `reason` is `taken` (another attempt has the job, or has "
    "ended it) or `deleted`",
    '`reason="taken"` grows: the worker stalls, or the clock of Redis jumps',
    labels=("reason",),
)
LATE_RENEWALS: Final = Metric(
    "holdline_late_renewals_total",
    "counter",
    "lease renewals that were late",
    "the value grows: the process lacks CPU time, or Redis is slow",
)
APPENDS: Final = Metric(
    "holdline_append_entries",
    "histogram",
    "log entries in one append; `_count` is the number of appends",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
APPEND_SECONDS: Final = Metric(
    "holdline_append_seconds",
    "histogram",
    "time from sending an append to Redis until its reply",
    "the 99th percentile is above 0.1",
    buckets=_SHORT,
)
CALL_SECONDS: Final = Metric(
    "gen_ai_client_operation_duration_seconds",
    "histogram",
    "duration of a model call. `error_type` is the cause of a failed call, or empty",
    "the share of calls with an `error_type` grows",
    labels=(*_GEN_AI, "error_type"),
    buckets=_CALL,
)
FIRST_CHUNK: Final = Metric(
    "gen_ai_client_operation_time_to_first_chunk_seconds",
    "histogram",
    "time from the start of a model call to the first piece of its answer",
    "the 95th percentile grows: the provider is slow",
    labels=_GEN_AI,
    buckets=_CALL,
)
USAGE: Final = Metric(
    "gen_ai_client_token_usage",
    "histogram",
    "tokens of a model call that the endpoint reported; `_sum` is their total",
    labels=(*_GEN_AI, "gen_ai_token_type"),
    buckets=_TOKENS,
)
SPEED: Final = Metric(
    "holdline_output_tokens_per_second",
    "histogram",
    "output tokens per second of a model call, after its first piece",
    "the median falls: the provider is slow",
    labels=("model",),
    buckets=(1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000),
)
FALLBACKS: Final = Metric(
    "holdline_failed_over_total",
    "counter",
    "model calls that failed before their first piece, and for which a fallback was tried. "
    "`model` is the model that failed",
    "the value grows",
    labels=("model", "cause"),
)
KEY_EXPIRY: Final = Metric(
    "holdline_model_key_expiry_timestamp_seconds",
    "gauge",
    "Unix time at which the worker's [API key of a model](models.md#keys-that-expire) expires, "
    "if it is known",
    "the time is near, because a worker renews a key long before",
    labels=("model",),
    merge="min",
)
KEY_FAILURES: Final = Metric(
    "holdline_model_key_failures_total",
    "counter",
    "failures to get the API key of a model from its file or command",
    "the value grows",
    labels=("model",),
)
WEBHOOKS: Final = Metric(
    "holdline_webhook_attempts_total",
    "counter",
    "attempts to send a webhook. `result` is `sent`, `failed` or `abandoned` (no further attempts)",
    '`result="abandoned"` grows',
    labels=("result",),
)
PUSHES: Final = Metric(
    "holdline_push_attempts_total",
    "counter",
    "attempts to send a push. `result` is `sent`, `failed`, `gone` (the subscription no longer "
    "exists) or `abandoned` (no further attempts)",
    '`result="abandoned"` grows',
    labels=("result",),
)
ALL: Final = (
    RUNNING,
    CONCURRENCY,
    HELD,
    QUEUE_WAIT,
    FIRST_TOKEN,
    RESPONSES,
    DURATION,
    ATTEMPTS,
    RECOVERIES,
    RESCUED,
    DEAD,
    LEASES_LOST,
    LATE_RENEWALS,
    APPENDS,
    APPEND_SECONDS,
    CALL_SECONDS,
    FIRST_CHUNK,
    USAGE,
    SPEED,
    FALLBACKS,
    KEY_EXPIRY,
    KEY_FAILURES,
    WEBHOOKS,
    PUSHES,
)


class EndedCall(Protocol):
    """The members of `ModelCall` that the metrics use. Times are in seconds."""

    cause: str
    model: str | None

    @property
    def seconds(self) -> float: ...
    @property
    def first_seconds(self) -> float | None: ...
    @property
    def counted(self) -> dict[str, Any] | None: ...


class WorkerMetrics:
    """The metrics of one worker process.

    `models` are the possible values of the label `model`. Clients may ask for any model name if
    there is no models file; such names count as `other`.
    """

    def __init__(self, models: Collection[str] = ()) -> None:
        registry = self.registry = Registry()
        self._models = frozenset(models)
        self.running = registry.value(RUNNING)
        self.concurrency = registry.value(CONCURRENCY)
        self.held_bytes = registry.value(HELD)
        self._queue_wait = registry.distributions(QUEUE_WAIT)
        self._first_token = registry.distributions(FIRST_TOKEN)
        self._responses = registry.values(RESPONSES)
        self._duration = registry.distributions(DURATION)
        known = sorted(models) or [OTHER]
        self._attempts = registry.values(ATTEMPTS, *((model, "stop") for model in known))
        self.recent = RecentCounter()
        self._recoveries = registry.values(
            RECOVERIES, *((model, step) for model in known for step in RECOVERY_STEPS)
        )
        self.rescued = registry.values(RESCUED, "requeued", "ended")
        self.dead = registry.value(DEAD)
        self.leases_lost = registry.values(LEASES_LOST, TAKEN, DELETED)
        self.late_renewals = registry.value(LATE_RENEWALS)
        self.append_entries = registry.distribution(APPENDS)
        self.append_seconds = registry.distribution(APPEND_SECONDS)
        self._call_seconds = registry.distributions(CALL_SECONDS)
        for model in known:
            self._call_seconds.labels(*_OPERATION, model, "")
        self._first_chunk = registry.distributions(FIRST_CHUNK)
        self._usage = registry.distributions(USAGE)
        self._speed = registry.distributions(SPEED)
        self._failed_over = registry.values(FALLBACKS)
        self.key_expiry = registry.values(KEY_EXPIRY)
        self.key_failures = registry.values(KEY_FAILURES)
        self.webhooks = registry.values(WEBHOOKS, "sent", "failed", "abandoned")
        self.pushes = registry.values(PUSHES, "sent", "failed", "gone", "abandoned")
        self.process = ProcessMetrics(registry)
        self.redis_connected = redis_metrics.add_to(registry)

    def started(self, model: str | None, waited_ms: int) -> None:
        """Records the start of the first attempt of a job, and its wait in the queue."""
        self._queue_wait.labels(self.label(model)).observe(waited_ms / 1000)

    def attempted(self, model: str | None, cause: str) -> None:
        """Records the end of an attempt."""
        self._attempts.labels(self.label(model), cause).inc()
        failed = cause in CAUSES and _failed(cause)
        self.recent.add(time.monotonic(), model or OTHER, cause, failed=failed)

    def recovered(self, model: str | None, step: str) -> None:
        """Records how an attempt began after an interrupted one."""
        self._recoveries.labels(self.label(model), step).inc()

    def failed_over(self, model: str, cause: str) -> None:
        """Records a failed call for which a fallback is tried."""
        self._failed_over.labels(self.label(model), cause).inc()

    def ended(self, model: str | None, status: str, timing: dict[str, int]) -> None:
        """Records the end of a response. `timing` is that of its last event, in ms."""
        label = self.label(model)
        self._responses.labels(label, status).inc()
        self._duration.labels(label).observe(timing["total_ms"] / 1000)
        if (first := timing.get("first_token_ms")) is not None:
            self._first_token.labels(label).observe((timing["queued_ms"] + first) / 1000)

    def called(self, model: str | None, call: EndedCall) -> None:
        """Records a model call that has ended. `model` is the name in the request."""
        label = self.label(call.model or model)
        error = call.cause if _failed(call.cause) else ""
        self._call_seconds.labels(*_OPERATION, label, error).observe(call.seconds)
        first = call.first_seconds
        if first is not None:
            self._first_chunk.labels(*_OPERATION, label).observe(first)
        counts = call.counted
        if counts is None:
            return
        for kind in ("input", "output"):
            tokens = counts[f"{kind}_tokens"]
            self._usage.labels(*_OPERATION, label, kind).observe(tokens)
        if first is not None and counts["output_tokens"] and call.seconds > first:
            speed = counts["output_tokens"] / (call.seconds - first)
            self._speed.labels(label).observe(speed)

    def label(self, model: str | None) -> str:
        """Returns the name of a configured model, and "other" for any text that a client chose."""
        return model if model in self._models and model is not None else OTHER


def _failed(cause: str) -> bool:
    return bool(CAUSES[cause].message) if cause in CAUSES else True
