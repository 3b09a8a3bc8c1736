"""Tests which states cause alerts, and their words."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from server.api.schema.console import (
    ModelState,
    RedisState,
    State,
    TenantState,
    WorkerCounts,
    WorkerState,
)
from server.console.alerts import MAX_ALERTS, alerts_of
from server.console.state import EMPTY

NOW = 1_000_000.0
ALIVE = WorkerCounts(total=2, ready=2, draining=0, paused=0, slots=8)


def state(**fields: Any) -> State:
    return replace(EMPTY, read_at=NOW, worker_counts=ALIVE, **fields)


def model(name: str = "fast", **fields: Any) -> ModelState:
    usual = ModelState(name, 0, None, {}, 2, 0, None, None)
    return replace(usual, **fields)


def worker(**fields: Any) -> WorkerState:
    usual = WorkerState("ab", "host", 7, "1.0", "ready", None, 0.0, 0.0, 0, 4, [])
    return replace(usual, **fields)


def tenant(**fields: Any) -> TenantState:
    return replace(TenantState("acme", 0, 0, False, 0, None, 0.0, None), **fields)


def redis(**fields: Any) -> RedisState:
    return replace(RedisState("Redis", "7.0.15", 6379, 50, 100, True, False, False), **fields)


def texts(found: State) -> list[str]:
    return [alert.text for alert in alerts_of(found)]


def test_a_healthy_service_has_no_alert() -> None:
    busy = [model(waiting=3, oldest_at=NOW - 100), model("large")]
    assert [] == texts(state(models=busy, workers=[worker()], tenants=[tenant(tokens_limit=9)]))


def test_no_worker_at_all_is_one_problem_with_the_command() -> None:
    waiting = [model(waiting=12, oldest_at=NOW - 200, workers=0), model("large", workers=0)]
    none = replace(ALIVE, total=0, ready=0)
    counts = replace(EMPTY.counts, waiting=12)
    [alert] = alerts_of(replace(state(models=waiting), worker_counts=none, counts=counts))
    assert ("problem", "holdline worker") == (alert.level, alert.command)
    assert (
        "No worker is alive, so no prompt is answered. 12 prompts wait, the oldest for 3 min. "
        "Start one." == alert.text
    )


def test_a_model_without_a_live_worker_is_a_problem_before_any_warning() -> None:
    dead = replace(EMPTY.counts, dead=1)
    found = state(models=[model(waiting=1, oldest_at=NOW - 5, workers=0)], counts=dead)
    assert [
        (
            "No live worker serves the model fast. 1 prompt has waited for 5 s. "
            "Start one whose models file lists it."
        ),
        "1 job is in the dead list, waiting for your decision.",
    ] == texts(found)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (
            state(models=[model(paused_until=NOW + 90, waiting=1, oldest_at=NOW - 600)]),
            "Nothing starts for the model fast for another 1 min: its provider asked for a pause.",
        ),
        (
            state(models=[model("", waiting=1_200, oldest_at=NOW - 7_300), model()]),
            (
                "Prompts for models outside the models file have long waits. 1,200 prompts wait, "
                "the oldest for 2 h. If this lasts, start another worker."
            ),
        ),
        (
            state(models=[model("", waiting=1, oldest_at=NOW - 300)]),
            (
                "Prompts for any model have long waits. 1 prompt has waited for 5 min. "
                "If this lasts, start another worker."
            ),
        ),
        (
            state(counts=replace(EMPTY.counts, lost=2)),
            "2 running responses are without a worker until another takes over.",
        ),
        (
            state(workers=[worker(reason="leases_renewed_late"), worker()]),
            "1 worker is late with the renewal of leases, so responses may restart.",
        ),
        (
            replace(
                state(workers=[worker(state="paused", reason="Redis full")]),
                worker_counts=replace(ALIVE, paused=1),
            ),
            "1 worker is paused: Redis full.",
        ),
        (
            state(workers=[worker(version="1.0"), worker(version="1.1")]),
            "The workers run different versions: 1.0, 1.1.",
        ),
        (
            state(tenants=[tenant(tokens_used=93, tokens_limit=100.0, money_limit=1.0)]),
            "The tenant acme has used 93% of its tokens for today.",
        ),
    ],
)
def test_a_warning_says_what_is_wrong(found: State, text: str) -> None:
    assert [("warning", text)] == [(alert.level, alert.text) for alert in alerts_of(found)]


@pytest.mark.parametrize(
    ("found", "text", "command"),
    [
        (
            state(models=[model(attempts=60, failed_attempts=57, failure_cause="upstream_busy")]),
            (
                "57 of 60 attempts of the model fast failed in the last 5 min, "
                "mostly with upstream_busy."
            ),
            "holdline check --program worker --ask-models",
        ),
        (
            state(redis=[redis(used_bytes=99, nearly_full=True)]),
            (
                "Redis on port 6379 uses 99% of its memory. "
                "Prompts for which it has no room are refused."
            ),
            "redis-cli INFO memory",
        ),
        (
            state(redis=[redis(port=0, writes_fail=True)]),
            "The last write of Redis to disk failed, so that it may refuse prompts.",
            "redis-cli INFO persistence",
        ),
    ],
)
def test_failing_calls_and_a_full_redis_are_problems(found: State, text: str, command: str) -> None:
    assert [("problem", text, command)] == [
        (alert.level, alert.text, alert.command) for alert in alerts_of(found)
    ]


def test_few_failed_attempts_and_a_redis_without_a_limit_cause_no_alert() -> None:
    calm = model(attempts=60, failed_attempts=9, failure_cause="upstream_busy")
    assert [] == texts(state(models=[calm], redis=[redis(used_bytes=10**12, max_bytes=0)]))


def test_the_alerts_are_bounded_and_problems_stay() -> None:
    many = [model(f"m{number}", workers=0) for number in range(5)]
    used = [tenant(tokens_used=9, tokens_limit=9.0) for _ in range(40)]
    found = alerts_of(state(models=many, tenants=used))
    assert MAX_ALERTS == len(found)
    assert ["problem"] * 5 == [alert.level for alert in found[:5]]
