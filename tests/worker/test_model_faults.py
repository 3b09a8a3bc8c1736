"""Tests that permanent model faults fail a job and that transient ones are retried.

No fault completes a job.
"""

from __future__ import annotations

import json
import time

import pytest

from jobs.log.events import RESTARTED
from jobs.record import Status
from jobs.timeline import StepKind
from jobs.timeline_reader import read_timeline
from tests.replay import ReplayedEndpoint
from tests.worker.conftest import MakeHarness
from tests.worker.harness import Harness, numbered, response, said

PERMANENT = {
    "400": "upstream_rejected",
    "401": "upstream_unauthorized",
    "403": "upstream_unauthorized",
    "404": "upstream_model_not_found",
    "418": "upstream_rejected",
}


TRANSIENT = {
    "408": "upstream_unavailable",
    "500": "upstream_unavailable",
    "502": "upstream_unavailable",
    "503": "upstream_busy",
    "busy": "upstream_busy",
    "html": "upstream_malformed",
    "eof": "upstream_truncated",
    "done": "upstream_truncated",
    "cutevent": "upstream_truncated",
    "cutchunk": "upstream_unavailable",
    "rst": "upstream_unavailable",
    "drop": "upstream_unavailable",
    "badjson": "upstream_malformed",
    "badutf": "upstream_malformed",
    # The error message of this mode contains "overloaded".
    "shape": "upstream_busy",
    "errorobject": "upstream_error",
}


SILENT = {
    "silent": "upstream_timeout",
    "headers": "upstream_timeout",
    "comments": "upstream_timeout",
    "hang": "upstream_stalled",
    "comments at=5": "upstream_stalled",
}


SHORT = {
    "upstream_timeout": {"HOLDLINE_FIRST_TOKEN_SECONDS": "0.4"},
    "upstream_stalled": {"HOLDLINE_STALL_TIMEOUT_SECONDS": "0.4"},
}


@pytest.mark.parametrize(("mode", "code"), PERMANENT.items())
async def test_a_permanent_error_fails_at_once(harness: Harness, mode: str, code: str) -> None:
    view = await harness.execute(f"mode={mode}")
    assert Status.FAILED is view.status
    assert code == response(await harness.events(harness.only))["error"]["code"]
    assert 1 == len(harness.model.calls)


@pytest.mark.parametrize(("mode", "code"), [*TRANSIENT.items(), *SILENT.items()])
async def test_a_transient_error_is_retried_and_fails_after_the_last_attempt(
    make_harness: MakeHarness, mode: str, code: str
) -> None:
    async with make_harness(**SHORT.get(code, {})) as harness:
        view = await harness.execute(f"mode={mode}", attempts=3)
        assert Status.FAILED is view.status
        events = await harness.events(harness.only)
        assert code == response(events)["error"]["code"]
        assert 3 == len(harness.model.calls)
        restarts = [event for event in events if event["type"] == RESTARTED]
        assert [(2, code), (3, code)] == [(event["attempt"], event["reason"]) for event in restarts]
        # The answer contains the partial text of the last call and no text of the earlier calls.
        assert harness.model.calls[-1].sent == said(events)
        assert "completed" not in {item["status"] for item in response(events)["output"]}


@pytest.mark.parametrize(("mode", "code"), [*TRANSIENT.items(), *SILENT.items()])
async def test_a_second_attempt_completes_the_answer(
    make_harness: MakeHarness, mode: str, code: str
) -> None:
    async with make_harness(**SHORT.get(code, {})) as harness:
        view = await harness.execute(f"mode={mode} times=1", attempts=2)
        assert Status.COMPLETED is view.status
        events = await harness.events(harness.only)
        assert numbered(2) == said(events)
        assert 2 == response(events)["holdline"]["attempts"]


async def test_reasoning_counts_as_output_for_the_stall_timeout(make_harness: MakeHarness) -> None:
    async with make_harness(HOLDLINE_STALL_TIMEOUT_SECONDS="0.1") as harness:
        view = await harness.execute("mode=thinking pace=0.02")
        assert Status.COMPLETED is view.status


async def test_a_call_that_exceeds_the_model_timeout_is_ended(make_harness: MakeHarness) -> None:
    async with make_harness(HOLDLINE_MODEL_TIMEOUT_SECONDS="0.3") as harness:
        view = await harness.execute("mode=slow tokens=1000")
        assert Status.FAILED is view.status
        events = await harness.events(harness.only)
        assert "upstream_over_time" == response(events)["error"]["code"]
        assert said(events)


async def test_an_unreachable_endpoint_counts_as_unavailable(make_harness: MakeHarness) -> None:
    async with make_harness(OPENAI_BASE_URL="http://127.0.0.1:9/v1") as harness:
        await harness.execute("hi", attempts=3)
        ended = response(await harness.events(harness.only))
        assert "upstream_unavailable" == ended["error"]["code"]


async def test_the_timeline_has_the_http_status_of_each_failed_attempt(harness: Harness) -> None:
    await harness.execute("mode=busy after=0", attempts=3)
    found = await read_timeline(harness.context.pipe, harness.only)
    assert [(1, "429"), (2, "429"), (3, "429")] == [
        (step.attempt, step.code) for step in found.steps if step.kind is StepKind.HTTP_ERROR
    ]


async def test_the_retry_waits_for_the_time_in_retry_after(harness: Harness) -> None:
    began = time.monotonic()
    await harness.execute("mode=busy times=1 after=0.5", attempts=2)
    assert 0.5 <= time.monotonic() - began
    assert "completed" == response(await harness.events(harness.only))["status"]


async def test_retry_after_of_a_5xx_response_is_respected(make_harness: MakeHarness) -> None:
    failure = (
        b"HTTP/1.1 502 X\r\nRetry-After: 0.4\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    answer = b'data: {"choices": [{"delta": {"content": "ok"}, "finish_reason": "stop"}]}\n\n'
    async with (
        ReplayedEndpoint([failure, answer]) as endpoint,
        make_harness(OPENAI_BASE_URL=endpoint.url) as harness,
    ):
        began = time.monotonic()
        await harness.execute("hi", attempts=2)
        assert 0.4 <= time.monotonic() - began
        assert "completed" == response(await harness.events(harness.only))["status"]


@pytest.mark.parametrize("mode", ["400", "500", "busy", "errorobject"])
async def test_the_text_of_a_provider_error_reaches_neither_clients_nor_logs(
    harness: Harness, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await harness.execute(f"mode={mode} marker-of-the-prompt", attempts=1)
    written = json.dumps(await harness.events(harness.only)) + "".join(capsys.readouterr())
    assert "sk-secret" in str(harness.model.calls[0].headers)
    assert "sk-secret" not in written
    assert "marker-of-the-prompt" not in written
