"""Reads an overview of the queue: how many jobs are in which state, queue and tenant.

Each partition is read with a script whose time depends on the number of its queues and models, but
not on the number of its jobs. The tenants are those with the most unfinished jobs and those that
have used the most tokens today.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from .names import Partition, model_of, tier_of
from .redis.unexpected_reply import decoding
from .scripts import calls

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from .record import SharedSettings
    from .redis.pipe import Pipe

MAX_TENANTS: Final = 50
# The only reason for the pause of a model: its provider sent `Retry-After`.
RETRY_AFTER: Final = "retry_after"


@dataclass(frozen=True, slots=True)
class JobCounts:
    """Numbers of one partition, or their sums over all partitions.

    `unfinished` jobs are `waiting` in a queue, `delayed` until a retry, or `running`. A running job
    with an expired lease has lost its worker, and a rescue takes it over. `dead` is the length of
    the dead list, and `unsettled` the number of conversations whose items a worker still appends.
    `prompt_bytes` is the size of all unfinished prompts. `started` is the number of claims so far,
    which only grows.
    """

    unfinished: int = 0
    waiting: int = 0
    delayed: int = 0
    running: int = 0
    expired_leases: int = 0
    dead: int = 0
    unsettled: int = 0
    prompt_bytes: int = 0
    started: int = 0
    webhooks_waiting: int = 0
    webhooks_sent: int = 0
    webhooks_dead: int = 0
    webhooks_seen: int = 0
    webhooks_dropped: int = 0


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """The waiting jobs of a service tier and a model.

    `model` is "" for all models that the models file does not list. `oldest_seconds` is the time
    since the submission of the oldest of the waiting jobs.
    """

    tier: str
    model: str
    waiting: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class PausedModel:
    """A model of which no job begins for `seconds`, and the reason."""

    model: str
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class TenantLoad:
    """The unfinished jobs of a tenant, and its usage today (UTC).

    `held` is True if the tenant's limit of running jobs holds further jobs back. `money` is in the
    currency of the prices. A limit of 0 means no limit, and `budget_share` is the used share of the
    budget that is used most, in the partition where it is used most. It can exceed 1.
    """

    tenant: str
    unfinished: int
    running: int
    held: bool
    tokens: int
    tokens_per_day: float
    money: float
    money_per_day: float
    budget_share: float

    @property
    def waiting(self) -> int:
        """The number of jobs that wait in a queue or for a retry."""
        return max(self.unfinished - self.running, 0)


@dataclass(frozen=True, slots=True)
class Overview:
    """The state of the queue at a time of Redis, `now`, in milliseconds since 1970.

    `partitions` are the counts of each partition, and `total` their sums. `tenants` are the tenants
    with the most unfinished jobs, and the tenants that have used the most tokens today.
    `other_tenants` is the number of the tenants with unfinished jobs that are not among them, and
    `other_unfinished` the number of their unfinished jobs.
    """

    now: int
    total: JobCounts
    partitions: tuple[JobCounts, ...]
    queues: tuple[QueueDepth, ...]
    paused: tuple[PausedModel, ...]
    tenants: tuple[TenantLoad, ...]
    other_tenants: int
    other_unfinished: int

    @property
    def oldest_seconds(self) -> float:
        """The time since the submission of the oldest waiting job; 0 if no job waits."""
        return max((queue.oldest_seconds for queue in self.queues), default=0.0)

    def of_model(self, model: str) -> tuple[int, float]:
        """Returns the number of a model's waiting jobs in all tiers, and the age of the oldest."""
        found = [queue for queue in self.queues if queue.model == model]
        oldest = max((queue.oldest_seconds for queue in found), default=0.0)
        return sum(queue.waiting for queue in found), oldest

    def as_dict(self) -> dict[str, Any]:
        """Returns the overview as a JSON object."""
        tenants = [{**asdict(tenant), "waiting": tenant.waiting} for tenant in self.tenants]
        return {**asdict(self), "tenants": tenants, "oldest_seconds": self.oldest_seconds}


@dataclass(frozen=True, slots=True)
class _PartitionView:
    """The reply of the script `overview` for one partition. Times are in milliseconds."""

    now: int
    counts: JobCounts
    queues: list[tuple[str, int, int]]
    paused: list[tuple[str, int]]
    by_unfinished: dict[str, int]
    by_tokens: dict[str, int]


async def read_overview(
    pipe: Pipe,
    settings: SharedSettings,
    models: Collection[str] = (),
    *,
    tenants: int = MAX_TENANTS,
) -> Overview:
    """Reads the overview of all partitions.

    `models` are models whose pauses are reported even if no job has ever waited for them. `tenants`
    is the maximum number of tenants in each of the two rankings.

    Raises: RedisTrouble.
    """
    with decoding("the overview of the queue"):
        return await _read_all(pipe, settings, models, tenants)


async def _read_all(
    pipe: Pipe, settings: SharedSettings, models: Collection[str], tenants: int
) -> Overview:
    partitions = [Partition(number) for number in settings.partitions]
    views = await asyncio.gather(*(_read(pipe, names, models, tenants) for names in partitions))
    busiest = _top((view.by_unfinished for view in views), tenants)
    spenders = _top((view.by_tokens for view in views), tenants)
    chosen = sorted({*busiest, *spenders})
    loads = await asyncio.gather(*(_loads(pipe, names, settings, chosen) for names in partitions))
    known, rows = max((known for known, _ in loads), default=0), [row for _, row in loads]
    shown = sorted(
        (_load(tenant, [row[tenant] for row in rows]) for tenant in chosen),
        key=lambda load: (-load.unfinished, -load.budget_share, -load.tokens, load.tenant),
    )
    counts = tuple(view.counts for view in views)
    total = _sum(counts)
    named = sum(load.unfinished for load in shown)
    with_jobs = sum(load.unfinished > 0 for load in shown)
    return Overview(
        now=max(view.now for view in views),
        total=total,
        partitions=counts,
        queues=_queues(views),
        paused=_paused(views),
        tenants=tuple(shown),
        other_tenants=max(known - with_jobs, 0),
        other_unfinished=max(total.unfinished - named, 0),
    )


async def _read(
    pipe: Pipe, names: Partition, models: Iterable[str], tenants: int
) -> _PartitionView:
    now, counted, queues, paused, busiest, spenders = await pipe.run(
        calls.overview(
            queue_names_key=names.queue_names,
            prefix=names.prefix,
            most=max(tenants, 1),
            models=list(models),
        )
    )
    counts = {name.decode(): int(value) for name, value in _pairs(counted)}
    waiting = sum(queues[1::3])
    return _PartitionView(
        now,
        JobCounts(waiting=waiting, **counts),
        [(name.decode(), *rest) for name, *rest in _threes(queues)],
        [(model.decode(), left) for model, left in _pairs(paused)],
        {tenant.decode(): int(float(jobs)) for tenant, jobs in _pairs(busiest)},
        {tenant.decode(): int(float(tokens)) for tenant, tokens in _pairs(spenders)},
    )


async def _loads(
    pipe: Pipe, names: Partition, settings: SharedSettings, tenants: list[str]
) -> tuple[int, dict[str, TenantLoad]]:
    """Returns the number of a partition's tenants with jobs, and the loads of some tenants."""
    known, *rows = await pipe.run(
        calls.tenant_loads(
            tenants_key=names.tenants,
            prefix=names.prefix,
            tokens_per_day=settings.tenant_tokens,
            money_per_day=settings.tenant_money,
            tenants=tenants,
        )
    )
    return known, {load.tenant: load for load in map(_decoded, rows)}


def _decoded(row: Sequence[Any]) -> TenantLoad:
    tenant, unfinished, running, held, *numbers = row
    tokens, tokens_limit, money, money_limit = map(float, numbers)
    shares = [
        used / limit
        for used, limit in ((tokens, tokens_limit), (money / 1e6, money_limit))
        if limit
    ]
    return TenantLoad(
        tenant=tenant.decode(),
        unfinished=unfinished,
        running=running,
        held=bool(held),
        tokens=int(tokens),
        tokens_per_day=tokens_limit,
        money=money / 1e6,
        money_per_day=money_limit,
        budget_share=max(shares, default=0.0),
    )


def _load(tenant: str, loads: list[TenantLoad]) -> TenantLoad:
    """Returns the sum of a tenant's loads in all partitions, each of which has the same limits."""
    return TenantLoad(
        tenant=tenant,
        unfinished=sum(load.unfinished for load in loads),
        running=sum(load.running for load in loads),
        held=any(load.held for load in loads),
        tokens=sum(load.tokens for load in loads),
        tokens_per_day=loads[0].tokens_per_day,
        money=sum(load.money for load in loads),
        money_per_day=loads[0].money_per_day,
        budget_share=max(load.budget_share for load in loads),
    )


def _queues(views: Sequence[_PartitionView]) -> tuple[QueueDepth, ...]:
    waiting: Counter[str] = Counter()
    oldest: dict[str, int] = {}
    for view in views:
        for name, jobs, submitted in view.queues:
            waiting[name] += jobs
            oldest[name] = max(oldest.get(name, 0), view.now - submitted)
    return tuple(
        QueueDepth(tier_of(name), model_of(name), waiting[name], oldest[name] / 1000)
        for name in sorted(waiting)
    )


def _paused(views: Iterable[_PartitionView]) -> tuple[PausedModel, ...]:
    longest: dict[str, int] = {}
    for model, left in (row for view in views for row in view.paused):
        longest[model] = max(longest.get(model, 0), left)
    return tuple(
        PausedModel(model, longest[model] / 1000, RETRY_AFTER) for model in sorted(longest)
    )


def _top(rankings: Iterable[dict[str, int]], most: int) -> list[str]:
    total: Counter[str] = Counter()
    for ranking in rankings:
        total.update(ranking)
    return [name for name, _ in total.most_common(most)]


def _sum(counts: Sequence[JobCounts]) -> JobCounts:
    names = [field.name for field in fields(JobCounts)]
    return JobCounts(**{name: sum(getattr(one, name) for one in counts) for name in names})


def _pairs(flat: Sequence[Any]) -> Iterable[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _threes(flat: Sequence[Any]) -> Iterable[tuple[Any, Any, Any]]:
    return zip(flat[::3], flat[1::3], flat[2::3], strict=True)
