"""Derives the alerts of a state: sentences about what needs an operator. Performs no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobs.recent_attempts import RECENT_SECONDS, RecentAttempts
from server.api.schema.console import Alert

if TYPE_CHECKING:
    from collections.abc import Iterator

    from server.api.schema.console import ModelState, RedisState, State, TenantState

MAX_ALERTS: Final = 20
# A prompt that waits longer needs another worker, unless the load falls again.
LONG_WAIT_SECONDS: Final = 120.0
# The used share of a budget from which on the console warns.
NEARLY_USED: Final = 0.9
START_WORKER: Final = "holdline worker"
ASK_MODELS: Final = "holdline check --program worker --ask-models"


def alerts_of(state: State) -> list[Alert]:
    """Returns the alerts of a state, problems first."""
    found = sorted(_found(state), key=lambda alert: alert.level != "problem")
    return found[:MAX_ALERTS]


def _found(state: State) -> Iterator[Alert]:
    workers, counts = state.worker_counts, state.counts
    for node in state.redis:
        yield from _of_redis(node)
    if workers.total:
        for model in state.models:
            yield from _of_model(model, state.read_at, only=len(state.models) == 1)
    else:
        oldest = min((m.oldest_at for m in state.models if m.oldest_at is not None), default=None)
        waiting = _waiting(counts.waiting, None if oldest is None else state.read_at - oldest)
        text = f"No worker is alive, so no prompt is answered.{waiting} Start one."
        yield Alert("problem", text, START_WORKER)
    if workers.paused:
        reasons = sorted({w.reason for w in state.workers if w.state == "paused" and w.reason})
        why = f": {', '.join(reasons)}" if reasons else ""
        yield Alert("warning", f"{_are(workers.paused, 'worker')} paused{why}.")
    late = sum(w.state == "ready" and w.reason is not None for w in state.workers)
    if late:
        text = f"{_are(late, 'worker')} late with the renewal of leases, so responses may restart."
        yield Alert("warning", text)
    if counts.lost:
        text = f"{_are(counts.lost, 'running response')} without a worker until another takes over."
        yield Alert("warning", text)
    if counts.dead:
        text = f"{_are(counts.dead, 'job')} in the dead list, waiting for your decision."
        yield Alert("warning", text, "holdline dead list")
    versions = sorted({worker.version for worker in state.workers})
    if len(versions) > 1:
        text = f"The workers run different versions: {', '.join(versions[:5])}."
        yield Alert("warning", text)
    for tenant in state.tenants:
        yield from _of_tenant(tenant)


def _of_model(model: ModelState, now: float, *, only: bool) -> Iterator[Alert]:
    name = f"the model {model.model}" if model.model else "models outside the models file"
    name = "any model" if only and not model.model else name
    waited = None if model.oldest_at is None else now - model.oldest_at
    cause = model.failure_cause or ""
    if RecentAttempts(model.model, model.attempts, model.failed_attempts, cause).failing:
        text = f"{model.failed_attempts:,} of {model.attempts:,} attempts of {name} failed"
        text = f"{text} in the last {_span(RECENT_SECONDS)}, mostly with {cause}."
        yield Alert("problem", text, ASK_MODELS)
    if not model.workers:
        text = f"No live worker serves {name}.{_waiting(model.waiting, waited)}"
        yield Alert("problem", f"{text} Start one whose models file lists it.", START_WORKER)
    elif model.paused_until is not None:
        pause = _span(model.paused_until - now)
        text = f"Nothing starts for {name} for another {pause}: its provider asked for a pause."
        yield Alert("warning", text)
    elif waited is not None and waited > LONG_WAIT_SECONDS:
        text = f"Prompts for {name} have long waits.{_waiting(model.waiting, waited)}"
        yield Alert("warning", f"{text} If this lasts, start another worker.", START_WORKER)


def _of_redis(node: RedisState) -> Iterator[Alert]:
    name = f"{node.name} on port {node.port}" if node.port else node.name
    if node.nearly_full:
        share = int(100 * node.used_bytes / node.max_bytes)
        text = f"{name} uses {share}% of its memory. Prompts for which it has no room are refused."
        yield Alert("problem", text, "redis-cli INFO memory")
    if node.writes_fail:
        text = f"The last write of {name} to disk failed, so that it may refuse prompts."
        yield Alert("problem", text, "redis-cli INFO persistence")


def _of_tenant(tenant: TenantState) -> Iterator[Alert]:
    for used, limit, what in (
        (tenant.tokens_used, tenant.tokens_limit, "tokens"),
        (tenant.money_used, tenant.money_limit, "money"),
    ):
        if limit and used >= NEARLY_USED * limit:
            text = f"The tenant {tenant.tenant} has used {int(100 * used / limit)}% of its {what}"
            command = f"holdline tenants show {tenant.tenant}"
            yield Alert("warning", f"{text} for today.", command)


def _waiting(number: int, seconds: float | None) -> str:
    """Returns a sentence about waiting prompts, or "" if there are none."""
    if not number or seconds is None:
        return ""
    if number == 1:
        return f" 1 prompt has waited for {_span(seconds)}."
    return f" {number:,} prompts wait, the oldest for {_span(seconds)}."


def _are(number: int, noun: str) -> str:
    return f"1 {noun} is" if number == 1 else f"{number:,} {noun}s are"


def _span(seconds: float) -> str:
    """Returns a length of time in its largest whole unit."""
    if seconds < 60:
        return f"{max(1, int(seconds))} s"
    if seconds < 3600:
        return f"{int(seconds / 60)} min"
    return f"{int(seconds / 3600)} h"
