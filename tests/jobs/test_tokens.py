"""Tests the estimates of the tokens that a request will use."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.tokens import IMAGE_TOKENS, input_tokens, output_tokens
from tests.jobs.factories import a_job


def test_an_estimate_grows_with_the_input_of_the_model() -> None:
    short, long = a_job(text="x"), a_job(text="x" * 4000)
    assert 999 <= input_tokens(long) - input_tokens(short) <= 1000
    told = a_job(instructions="x" * 4000)
    assert input_tokens(told) > 1000
    assert input_tokens(a_job(metadata={"a": "x" * 400})) == input_tokens(a_job())


def test_the_estimate_of_an_image_does_not_depend_on_its_bytes() -> None:
    part = {"type": "input_image", "image_url": "data:image/png;base64," + "x" * 1_000_000}
    item = {"type": "message", "role": "user", "content": [part]}
    found = input_tokens(a_job(input=[item]))
    assert IMAGE_TOKENS < found < IMAGE_TOKENS + 100


def test_deeply_nested_input_is_estimated() -> None:
    schema: Any = "x" * 400
    for _ in range(10_000):
        schema = {"a": schema}
    assert 100 <= input_tokens(a_job(tools=[schema])) < 200


@pytest.mark.parametrize(("asked", "tokens"), [(None, 500), (20, 20), (90_000, 500)])
def test_the_estimated_output_is_at_most_the_output_limit(asked: int | None, tokens: int) -> None:
    assert tokens == output_tokens(a_job(max_output_tokens=asked))
