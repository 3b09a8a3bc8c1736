"""Tests how providers' error messages are classified; see `tests/vectors/failures.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.outcome import CAUSES
from worker.upstream.failures import classify, retry_after

ROWS = json.loads((Path(__file__).parents[2] / "vectors" / "failures.json").read_text())["rows"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "code", "message", "status", "x"]), inner)
    ),
    max_leaves=8,
)
DATE = "Sun, 06 Nov 1994 08:49:07 GMT"
NOW = 784_111_777.0  # 6 November 1994, 08:49:37 GMT


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['code']}-{row['from']}")
def test_an_error_is_classified(row: dict[str, Any]) -> None:
    assert row["code"] == classify(row["error"], row["status"]).code


@given(JSON, st.none() | st.integers(300, 599))
def test_every_error_code_has_a_vector(error: Any, status: int | None) -> None:
    assert classify(error, status).code in CAUSES


def test_the_retry_delay_of_an_error_is_read() -> None:
    error = [{"error": {"code": 429, "details": [{"@type": "RetryInfo", "retryDelay": "34s"}]}}]
    assert ("upstream_busy", 34.0) == (classify(error, 429).code, classify(error, 429).retry_after)


@pytest.mark.parametrize(
    "error",
    [
        {"message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"]}]}},
        {"error": {"message": "Unknown parameter: 'stream_options'.", "param": "stream_options"}},
    ],
)
def test_a_refused_optional_argument_is_recognized(error: Any) -> None:
    assert "stream_options" == classify(error, 422).parameter


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"x-ms-retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "Sunday, 06-Nov-94 08:50:07 GMT"}, 30.0),
        ({"retry-after": "Sun Nov  6 08:50:07 1994"}, 30.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:50:07 GMT"}, 30.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:50:07 GMT", "date": DATE}, 60.0),
        ({"retry-after": DATE}, 0.0),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert seconds == retry_after(headers, NOW)
