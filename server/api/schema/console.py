"""The types of the JSON objects that the console shows and its routes return.

All times are Unix seconds of Redis's clock, and all lists are bounded. No type contains a prompt or
an answer, except `Contents`.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct


class Alert(Struct):
    """A problem or a risk of the service, with the command that helps an operator, if any."""

    level: Literal["problem", "warning"]
    text: str
    command: str | None = None


class JobCounts(Struct):
    """The numbers of jobs by state.

    `lost` running jobs have lost their worker, and another worker takes them over. `started` is the
    number of attempts that workers have ever started.
    """

    waiting: int
    delayed: int
    running: int
    lost: int
    dead: int
    unsettled: int
    webhooks: int
    started: int


class ModelState(Struct):
    """A model with its queues. `model` is "" for the models that the models file does not list.

    `tiers` are the numbers of waiting jobs by service tier, without empty ones. `workers` is the
    number of live workers that serve the model. `attempts` is the number of attempts that live
    workers ended in the last five minutes, `failed_attempts` how many of them failed, and
    `failure_cause` the most frequent cause.
    """

    model: str
    waiting: int
    oldest_at: float | None
    tiers: dict[str, int]
    workers: int
    running: int
    paused_until: float | None
    pause_reason: str | None
    attempts: int = 0
    failed_attempts: int = 0
    failure_cause: str | None = None


class TenantState(Struct):
    """A tenant with its usage today (UTC). A limit of null means no limit.

    `held` is true if the tenant's limit of running responses holds further ones back.
    """

    tenant: str
    unfinished: int
    running: int
    held: bool
    tokens_used: int
    tokens_limit: float | None
    money_used: float
    money_limit: float | None


class WorkerState(Struct):
    """A live worker. An empty list of models means that it serves every model name.

    `reason` says why it is paused, or why a worker that is ready claims fewer jobs.
    """

    id: str
    host: str
    pid: int
    version: str
    state: Literal["ready", "draining", "paused"]
    reason: str | None
    started_at: float
    seen_at: float
    running: int
    concurrency: int
    models: list[str]


class WorkerCounts(Struct):
    """The numbers of live workers by state, and how many responses they can run at once."""

    total: int
    ready: int
    draining: int
    paused: int
    slots: int


class ServerState(Struct):
    """A live server process, with the numbers of its open WebSockets and HTTP event streams.

    The numbers are those of the time `seen_at`, at which the server wrote them.
    """

    id: str
    host: str
    pid: int
    version: str
    state: Literal["ready", "draining"]
    started_at: float
    seen_at: float
    sockets: int
    streams: int
    refused: int


class RefusedRequests(Struct):
    """How many requests live servers refused with an error code in the last five minutes."""

    code: str
    count: int


class AnswerState(Struct):
    """A running response. The fields that come from the record of its worker may be null at first.

    `lost` is true if its worker no longer holds the lease.
    """

    response_id: str
    model: str
    attempt: int
    submitted_at: float
    lost: bool
    worker: str | None
    host: str | None
    started_at: float | None
    first_token_at: float | None


class RedisState(Struct):
    """A Redis master, read every few seconds. `max_bytes` is 0 if it has no memory limit.

    `nearly_full` is true if it uses more than 90% of its limit, so that it soon refuses prompts.
    """

    name: str
    version: str
    port: int
    used_bytes: int
    max_bytes: int
    append_only: bool
    writes_fail: bool
    nearly_full: bool


class State(Struct):
    """The state of the service at the time `read_at`.

    If Redis is unavailable, the state is the last one that was read, or empty.
    """

    read_at: float
    redis_available: bool
    alerts: list[Alert]
    counts: JobCounts
    models: list[ModelState]
    tenants: list[TenantState]
    tenant_count: int
    workers: list[WorkerState]
    worker_counts: WorkerCounts
    answers: list[AnswerState]
    dead: list[str]
    redis: list[RedisState] = []
    servers: list[ServerState] = []
    server_count: int = 0
    refused: list[RefusedRequests] = []


class Workers(Struct):
    """A page of the live workers, in the order of their ids."""

    object: Literal["list"]
    data: list[WorkerState]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Contents(Struct):
    """The prompt and the answer of a response."""

    id: str
    input: list[dict[str, Any]]
    response: dict[str, Any]


class Step(Struct):
    """A step in the timeline of a response. Fields that a kind of step lacks are null.

    `code` says why or how. `wait_ms` is the delay of a retry, and `tries` the number of attempts to
    deliver a webhook.
    """

    at: float
    kind: str
    attempt: int | None = None
    worker: str | None = None
    code: str | None = None
    wait_ms: int | None = None
    tries: int | None = None


class Timeline(Struct):
    """The timeline of a response at the time `now`.

    If the status is null, the response is unknown: it has expired, was deleted or never existed.
    `dead` is true if the response is in the dead list. If `complete` is false, some steps are
    missing.
    """

    response_id: str
    now: float
    status: str | None
    model: str | None
    tenant: str | None
    tier: str | None
    attempts: int
    failures: int
    complete: bool
    dead: bool
    steps: list[Step]
