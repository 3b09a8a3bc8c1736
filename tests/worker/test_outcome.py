from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.record import Status
from worker.outcome import CAUSES, Decision, Finished, GiveBack, Policy, RetryAfter, Then, decide

ROWS = json.loads((Path(__file__).parent.parent / "vectors" / "outcome.json").read_text())["rows"]
POLICY = Policy(max_attempts=3)


def told(outcome: Decision) -> dict[str, Any]:
    if isinstance(outcome, RetryAfter):
        return {"delay_ms": outcome.delay_ms}
    if isinstance(outcome, GiveBack):
        return {"reason": outcome.reason}
    told = {"status": str(outcome.status), "code": outcome.code, "reason": outcome.reason}
    return {name: value for name, value in told.items() if value is not None}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['cause']}-{row.get('failures', 0)}")
def test_each_cause_leads_to_its_outcome(row: dict[str, Any]) -> None:
    outcome = decide(
        row["cause"],
        failures=row.get("failures", 0),
        policy=POLICY,
        jitter=0.0,
        retry_after=row.get("retry_after"),
    )
    assert row["then"] == told(outcome)


def test_every_cause_has_a_test_case() -> None:
    assert set(CAUSES) == {row["cause"] for row in ROWS}


@pytest.mark.parametrize("cause", CAUSES)
def test_the_message_of_a_failure_tells_the_client_what_to_do(cause: str) -> None:
    fails = CAUSES[cause].then in (Then.FAILED, Then.RETRY)
    assert fails == CAUSES[cause].message.endswith(".")


@given(
    cause=st.sampled_from(sorted(CAUSES)),
    failures=st.integers(min_value=0, max_value=1000),
    jitter=st.floats(min_value=0, max_value=1),
    retry_after=st.none() | st.floats(min_value=-1e9, max_value=1e9),
    most=st.integers(min_value=1, max_value=100),
)
def test_retries_end_and_their_delays_are_bounded(
    cause: str, failures: int, jitter: float, retry_after: float | None, most: int
) -> None:
    policy = Policy(max_attempts=most)
    outcome = decide(
        cause, failures=failures, policy=policy, jitter=jitter, retry_after=retry_after
    )
    if isinstance(outcome, RetryAfter):
        assert failures + 1 < most
        assert 0 <= outcome.delay_ms <= policy.max_retry_after_ms + policy.first_delay_ms
    elif isinstance(outcome, Finished):
        assert (outcome.status is Status.COMPLETED) == (cause == "stop")
    else:
        assert CAUSES[cause].then is Then.GIVE_BACK
