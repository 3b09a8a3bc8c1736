"""The metrics of the whole service, which any server reads from Redis: the queue and the workers.

Every server answers with the same values, so rules and dashboards take the maximum over servers. A
server reads Redis at most once per `SHARED_SECONDS`, however often it is scraped.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from jobs.errors import RedisTrouble
from jobs.overview import read_overview
from jobs.worker_registry import WorkerRegistry, WorkerState
from runtime.metrics import OTHER, LabelValues, Metric, Registry, render

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from jobs.overview import Overview
    from jobs.redis.pipe import Pipe
    from jobs.worker_registry import LiveWorker

    from .config import Config

SHARED_SECONDS: Final = 5.0
READ_SECONDS: Final = 2.0
# API keys are many records, which change rarely.
KEYS_SECONDS: Final = 60.0
MAX_TENANTS: Final = 50

UP: Final = Metric(
    "holdline_service_up",
    "gauge",
    "1 if this server could read the other metrics of the service from Redis, and 0 otherwise. "
    "With 0, the others are missing",
    "the value is 0",
)
JOBS: Final = Metric(
    "holdline_queue_jobs",
    "gauge",
    "unfinished responses. `state` is `waiting`, `delayed` (until a retry) or `running`",
    '`state="waiting"` grows',
    labels=("state",),
)
WAITING: Final = Metric(
    "holdline_queue_waiting_jobs",
    "gauge",
    "waiting responses of a [tier](glossary.md#tier) and a model. `model` is `other` for models "
    "that are not in the models file",
    "the value grows: there are too few workers for the model",
    labels=("tier", "model"),
)
OLDEST: Final = Metric(
    "holdline_queue_oldest_seconds",
    "gauge",
    "time since the submission of the oldest waiting response of a tier and a model; 0 if none "
    "waits",
    "the value is above what clients accept",
    labels=("tier", "model"),
)
PAUSED: Final = Metric(
    "holdline_model_paused_seconds",
    "gauge",
    "time until workers call the model again, whose provider has asked for a pause",
    "the model is paused most of the time",
    labels=("model",),
)
WORKERS: Final = Metric(
    "holdline_workers",
    "gauge",
    "live worker processes. `state` is `ready`, `paused` or `draining`",
    '`state="paused"` stays above 0',
    labels=("state",),
)
MODEL_WORKERS: Final = Metric(
    "holdline_model_workers",
    "gauge",
    "live worker processes that claim jobs of the model",
    "the value is 0",
    labels=("model",),
)
CAPACITY: Final = Metric(
    "holdline_workers_capacity_jobs",
    "gauge",
    "sum of `HOLDLINE_CONCURRENCY` over the live worker processes that are not draining",
    '`holdline_queue_jobs{state="running"}` equals it while jobs wait',
)
EXPIRED: Final = Metric(
    "holdline_expired_leases",
    "gauge",
    "running responses whose worker has not renewed the lease in time, and that no rescue has "
    "taken over yet",
    "the value stays above 0: no worker rescues",
)
DEAD_JOBS: Final = Metric(
    "holdline_dead_jobs",
    "gauge",
    "entries in the [dead list](recover.md#the-dead-list)",
    "the value is above 0",
)
UNSETTLED: Final = Metric(
    "holdline_unsettled_conversations",
    "gauge",
    "conversations to which a worker still has to append the items of a response",
    "the value grows",
)
PROMPT_BYTES: Final = Metric(
    "holdline_queue_prompt_bytes",
    "gauge",
    "size of all unfinished prompts",
    "the value comes near `HOLDLINE_MAX_WAITING_BYTES`",
)
WEBHOOKS: Final = Metric(
    "holdline_webhooks_waiting",
    "gauge",
    "webhooks that are not delivered yet",
    "the value grows",
)
TENANT_JOBS: Final = Metric(
    "holdline_tenant_jobs",
    "gauge",
    f"unfinished responses of a tenant. The {MAX_TENANTS} tenants with the most of them, and those "
    "that have used the most tokens today, are listed; `other` is the sum of the rest",
    labels=("tenant", "state"),
)
TENANT_TOKENS: Final = Metric(
    "holdline_tenant_tokens_today",
    "gauge",
    "tokens that a listed tenant has used today (UTC)",
    labels=("tenant",),
)
TENANT_BUDGET: Final = Metric(
    "holdline_tenant_budget_ratio",
    "gauge",
    "used share of the daily budget of a listed tenant, of tokens or of money, whichever is higher",
    "the value comes near 1: the tenant's requests will be refused until midnight (UTC)",
    labels=("tenant",),
)
REDIS_USED: Final = Metric(
    "holdline_redis_used_memory_bytes",
    "gauge",
    "memory that Redis uses for data. `master` is the number of the master in a cluster, from 0",
    "the value comes near `holdline_redis_max_memory_bytes`",
    labels=("master",),
)
REDIS_MAX: Final = Metric(
    "holdline_redis_max_memory_bytes",
    "gauge",
    "`maxmemory` of Redis, or the machine's memory if there is no such limit",
    labels=("master",),
)
KEY_END: Final = Metric(
    "holdline_api_key_expiry_timestamp_seconds",
    "gauge",
    "Unix time at which the next of the server's [API keys](secure.md#api-keys-and-tokens) "
    "expires; missing if no key expires",
    "the time is less than a week away",
)
JWKS_AGE: Final = Metric(
    "holdline_jwks_age_seconds",
    "gauge",
    "time since this server fetched the keys of `HOLDLINE_JWKS_URL`; missing without this setting "
    "and before the first token",
    "the value comes near six hours, after which tokens are refused",
)
ALL: Final = (
    UP,
    JOBS,
    WAITING,
    OLDEST,
    PAUSED,
    WORKERS,
    MODEL_WORKERS,
    CAPACITY,
    EXPIRED,
    DEAD_JOBS,
    UNSETTLED,
    PROMPT_BYTES,
    WEBHOOKS,
    TENANT_JOBS,
    TENANT_TOKENS,
    TENANT_BUDGET,
    REDIS_USED,
    REDIS_MAX,
    KEY_END,
    JWKS_AGE,
)


class ServiceMetrics:
    """Reads the metrics of the service at most once per `SHARED_SECONDS`.

    `key_ends` returns the times at which API keys end, in Unix seconds, and `jwks_age` the age of
    the fetched keys in seconds, or None.
    """

    def __init__(
        self,
        config: Config,
        pipe: Pipe,
        key_ends: Callable[[], Awaitable[Iterable[float]]],
        jwks_age: Callable[[], float | None],
    ) -> None:
        self._config = config
        self._pipe = pipe
        self._workers = WorkerRegistry(pipe, config.shared.lease_ms)
        self._key_ends, self._jwks_age = key_ends, jwks_age
        self._models = [*config.catalog.models] or [OTHER]
        self._lock = asyncio.Lock()
        self._page = b""
        self._read_at = self._keys_read_at = float("-inf")
        self._ends: list[float] = []

    async def page(self) -> bytes:
        """Returns the metrics in the text format of Prometheus."""
        async with self._lock:
            if time.monotonic() - self._read_at >= SHARED_SECONDS:
                registry = await self._read()
                self._page = render(registry.metrics, registry.state())
                self._read_at = time.monotonic()
        return self._page

    async def _read(self) -> Registry:
        registry = Registry()
        up = registry.value(UP)
        models = self._config.catalog.models
        try:
            async with asyncio.timeout(READ_SECONDS):
                overview, workers, memory = await asyncio.gather(
                    read_overview(self._pipe, self._config.shared, models, tenants=MAX_TENANTS),
                    self._workers.all(),
                    self._memory(),
                )
                await self._read_keys()
        except (RedisTrouble, TimeoutError):
            return registry
        up.set(1)
        self._add_queue(registry, overview)
        self._add_workers(registry, workers)
        _add_tenants(registry, overview)
        values: dict[LabelValues, float]
        for metric, index in ((REDIS_USED, 0), (REDIS_MAX, 1)):
            values = {(str(number),): float(node[index]) for number, node in enumerate(memory)}
            registry.values(metric).replace(values)
        now = time.time()
        if ends := [end for end in self._ends if end > now]:
            registry.value(KEY_END).set(min(ends))
        if (age := self._jwks_age()) is not None:
            registry.value(JWKS_AGE).set(age)
        return registry

    async def _memory(self) -> list[tuple[int, int]]:
        """Returns the used and the highest memory of each master in bytes. Raises: RedisTrouble."""
        return [_memory_of(await node.call("INFO", "memory")) for node in await self._pipe.nodes()]

    async def _read_keys(self) -> None:
        if time.monotonic() - self._keys_read_at >= KEYS_SECONDS:
            self._ends = list(await self._key_ends())
            self._keys_read_at = time.monotonic()

    def _add_queue(self, registry: Registry, overview: Overview) -> None:
        total = overview.total
        states = {"waiting": total.waiting, "delayed": total.delayed, "running": total.running}
        registry.values(JOBS).replace({(state,): jobs for state, jobs in states.items()})
        # A queue without waiting jobs has the value 0, so that a scaler can compare it.
        waiting: dict[LabelValues, float] = {("default", model): 0 for model in self._models}
        oldest = dict(waiting)
        for queue in overview.queues:
            labels = queue.tier, queue.model or OTHER
            waiting[labels] = waiting.get(labels, 0) + queue.waiting
            oldest[labels] = max(oldest.get(labels, 0), queue.oldest_seconds)
        registry.values(WAITING).replace(waiting)
        registry.values(OLDEST).replace(oldest)
        pauses: dict[LabelValues, float] = {(model,): 0 for model in self._models}
        pauses |= {(pause.model,): pause.seconds for pause in overview.paused}
        registry.values(PAUSED).replace(pauses)
        for metric, count in (
            (EXPIRED, total.expired_leases),
            (DEAD_JOBS, total.dead),
            (UNSETTLED, total.unsettled),
            (PROMPT_BYTES, total.prompt_bytes),
            (WEBHOOKS, total.webhooks_waiting),
        ):
            registry.value(metric).set(count)

    def _add_workers(self, registry: Registry, workers: list[LiveWorker]) -> None:
        states: dict[LabelValues, float] = {(state,): 0 for state in WorkerState}
        for worker in workers:
            states[worker.state,] += 1
        registry.values(WORKERS).replace(states)
        registry.values(MODEL_WORKERS).replace(
            {(model,): sum(one.serves(model) for one in workers) for model in self._models}
        )
        claiming = (one for one in workers if one.state is not WorkerState.DRAINING)
        registry.value(CAPACITY).set(sum(one.concurrency for one in claiming))


def _add_tenants(registry: Registry, overview: Overview) -> None:
    jobs: dict[LabelValues, float] = {(OTHER, "waiting"): overview.other_unfinished}
    for one in overview.tenants:
        jobs[one.tenant, "waiting"] = jobs.get((one.tenant, "waiting"), 0) + one.waiting
        jobs[one.tenant, "running"] = one.running
    registry.values(TENANT_JOBS).replace(jobs)
    registry.values(TENANT_TOKENS).replace({(one.tenant,): one.tokens for one in overview.tenants})
    limited = [one for one in overview.tenants if one.tokens_per_day or one.money_per_day]
    registry.values(TENANT_BUDGET).replace({(one.tenant,): one.budget_share for one in limited})


def _memory_of(info: bytes) -> tuple[int, int]:
    pairs = (line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
    fields = dict(pairs)
    used = int(fields.get("used_memory", 0))
    return used, int(fields.get("maxmemory", 0)) or int(fields.get("total_system_memory", 0))
