"""Tests that third-party libraries return correct answers and show the reasons for failures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.paths.conftest import Shared

from .running import CALL, PYTHON, SECONDS, environment, has_tokens, run

TOOL = 'mode=call args={"city":"Bern"}'
JSON = 'say={"city":"Bern"}'
# Failures that a retry would not fix. Each of these requests must reach the model only once, even
# if the library retries failures.
FAILURES = {"context": "mode=narrow at=1", "unauthorized": "mode=401"}
REASONS = {
    "context": ("400", "context_length_exceeded", "Shorten it"),
    "unauthorized": ("503", "The operator must check the key"),
}
ONCE = dict.fromkeys(FAILURES, 1)

Reasons = Mapping[str, tuple[str, ...]]

pytestmark = pytest.mark.timeout(2 * SECONDS)


def failures(shared: Shared) -> dict[str, str]:
    """Returns a prompt for each kind of failure."""
    return {name: shared.prompt(script) for name, script in FAILURES.items()}


def check_failures(
    shared: Shared,
    asked: dict[str, str],
    shown: dict[str, str],
    reasons: Reasons = REASONS,
    calls: Mapping[str, int] = ONCE,
) -> None:
    """Asserts that a library shows each reason after the expected number of model calls."""
    for name, words in reasons.items():
        for word in words:
            assert word in shown[name]
        assert calls[name] == len(shared.calls(asked[name])), name


def prompts(shared: Shared) -> dict[str, Any]:
    """Returns a program's prompts for one of the APIs."""
    scripts = {"plain": "tokens=3", "streamed": "tokens=5", "loop": CALL, "tool": TOOL}
    asked = {name: shared.prompt(script) for name, script in (scripts | {"json": JSON}).items()}
    return asked | {"failures": failures(shared)}


def check_model_calls(shared: Shared, asked: dict[str, Any]) -> None:
    """Asserts that the model was called once for each answer and twice for a tool loop."""
    names = ("plain", "streamed", "json", "loop")
    assert [1, 1, 1, 2] == [len(shared.calls(asked[name])) for name in names]


async def answers(
    shared: Shared,
    program: str,
    python: Path = PYTHON,
    reasons: Reasons = REASONS,
    calls: Mapping[str, int] = ONCE,
) -> dict[str, Any]:
    """Runs a program over both APIs, checks its failures, and returns its output for each API."""
    late = shared.prompt("mode=narrow at=1")
    asked = {api: prompts(shared) for api in ("chat", "responses")}
    saw: dict[str, Any] = await run(
        shared, program, json.dumps(asked | {"streamed_failure": late}), python=python
    )
    for api, said in asked.items():
        assert has_tokens(3, saw[api]["plain"])
        check_model_calls(shared, said)
        check_failures(shared, said["failures"], saw[api]["failures"], reasons, calls)
    for word in reasons["context"]:
        assert word in saw["chat"]["failures"]["streamed"]
    assert 1 == len(shared.calls(late))
    return {api: saw[api] for api in asked}


async def test_pydantic_ai(shared: Shared) -> None:
    for seen in (await answers(shared, "pydantic_ai_agents.py")).values():
        assert has_tokens(5, seen["streamed"])
        assert ("Rain in Bern.", "Bern", "Bern") == (seen["loop"], seen["tool"], seen["json"])


# `make test` checks the same with Pydantic AI.
@pytest.mark.heavy
async def test_haystack(shared: Shared) -> None:
    for seen in (await answers(shared, "haystack_generators.py")).values():
        text, pieces = seen["streamed"]
        assert has_tokens(5, text)
        assert text == pieces
        assert ("Rain in Bern.", "Bern") == (seen["loop"], seen["json"])


async def test_instructor(shared: Shared) -> None:
    modes = {"tools": TOOL, "json": JSON, "json_schema": JSON, "responses_tools": TOOL}
    asked: dict[str, dict[str, Any]] = {
        mode: {
            "plain": shared.prompt(script),
            "streamed": shared.prompt(script),
            "failures": failures(shared),
        }
        for mode, script in modes.items()
    }
    saw = await run(shared, "instructor_models.py", json.dumps(asked))
    for mode, said in asked.items():
        assert ("Bern", "Bern") == (saw[mode]["plain"], saw[mode]["streamed"])
        check_failures(shared, said["failures"], saw[mode]["failures"])


@pytest.mark.heavy
async def test_llama_index(shared: Shared) -> None:
    """By default, LlamaIndex sends two retries after a status of 500 or above."""
    saw = await answers(
        shared,
        "llama_index_models.py",
        python=environment("llama_index") / "python",
        calls=ONCE | {"unauthorized": 3},
    )
    for seen in saw.values():
        assert has_tokens(5, seen["streamed"])
        assert ("Rain in Bern.", "Bern") == (seen["loop"], seen["json"])
    assert "Bern" == saw["chat"]["tool"]


@pytest.mark.heavy
async def test_litellm(shared: Shared) -> None:
    """LiteLLM recognizes an overlong input by the text of the error message."""
    reasons = {
        "context": ("ContextWindowExceededError", "Shorten it"),
        "unauthorized": ("ServiceUnavailableError", "The operator must check the key"),
    }
    for seen in (await answers(shared, "litellm_client.py", reasons=reasons)).values():
        assert has_tokens(5, seen["streamed"])
        assert ("Rain in Bern.", "Bern") == (seen["loop"], seen["json"])
