"""Tests the mapping of failure causes to the errors that clients know."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.log.codec import encode_event
from jobs.record import Status
from server.api.failures import FAILURES, problem_of, translated
from server.api.frames import frame
from tests.jobs.factories import a_job, ending
from worker.outcome import CAUSES, Then

FAILING = sorted(cause for cause, row in CAUSES.items() if row.then in (Then.FAILED, Then.RETRY))


def failed(cause: str) -> dict[str, Any]:
    event = ending(a_job(), Status.FAILED, cause=cause)
    response: dict[str, Any] = frame(7, encode_event(event)).event["response"]
    return response


def test_every_cause_of_failure_is_translated() -> None:
    assert FAILING == sorted(FAILURES)


@pytest.mark.parametrize("cause", FAILING)
def test_a_failure_has_a_standard_code_and_its_cause(cause: str) -> None:
    response = failed(cause)

    assert response["error"]["code"] in {
        "context_length_exceeded",
        "invalid_prompt",
        "model_not_found",
        "rate_limit_exceeded",
        "server_error",
    }
    assert cause == response["holdline"]["error_code"]
    assert response == translated(response), "once is enough"


@pytest.mark.parametrize("cause", FAILING)
def test_rejected_provider_credentials_do_not_appear_as_the_callers_error(cause: str) -> None:
    problem = problem_of(failed(cause))

    assert problem is not None
    assert problem.status not in (401, 402, 403)
    assert ("X-Should-Retry" in problem.headers) == (not FAILURES[cause].retry)
    if CAUSES[cause].then is Then.RETRY:
        assert FAILURES[cause].retry


def test_a_response_that_did_not_fail_is_unchanged() -> None:
    response = ending(a_job())["response"]

    assert response is translated(response)
    assert problem_of(response) is None
