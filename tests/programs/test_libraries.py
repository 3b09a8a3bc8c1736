"""Libraries that nobody here wrote, each with answers and with failures whose reasons it shows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.paths.conftest import Shared

from .running import CALL, SECONDS, counted, run

TOOL = 'mode=call args={"city":"Bern"}'
JSON = 'say={"city":"Bern"}'
# The same request fails again: each must reach the model once, whatever the library's own retries.
FAILURES = {
    "context": ("mode=narrow at=1", ("400", "context_length_exceeded", "Shorten it")),
    "unauthorized": ("mode=401", ("503", "The operator must check its key")),
}

pytestmark = pytest.mark.timeout(2 * SECONDS)


def failures(shared: Shared) -> dict[str, str]:
    """A prompt for each failure."""
    return {name: shared.prompt(script) for name, (script, _) in FAILURES.items()}


def shows_failures(shared: Shared, asked: dict[str, str], shown: dict[str, str]) -> None:
    """Asserts that a library shows each reason to its user, and has not asked again."""
    for name, (_, words) in FAILURES.items():
        for word in words:
            assert word in shown[name]
        assert 1 == len(shared.calls(asked[name])), name


def prompts(shared: Shared) -> dict[str, Any]:
    """What a program asks over one API."""
    scripts = {"plain": "tokens=3", "streamed": "tokens=5", "loop": CALL, "tool": TOOL}
    asked = {name: shared.prompt(script) for name, script in (scripts | {"json": JSON}).items()}
    return asked | {"failures": failures(shared)}


def reached(shared: Shared, asked: dict[str, Any]) -> None:
    """Asserts that the model was called once for each answer, and twice for a loop of tools."""
    names = ("plain", "streamed", "json", "loop")
    assert [1, 1, 1, 2] == [len(shared.calls(asked[name])) for name in names]


async def answers(shared: Shared, program: str) -> dict[str, Any]:
    """The output of a program that asks over both APIs, by API; its failures are shown."""
    late = shared.prompt("mode=narrow at=1")
    asked = {api: prompts(shared) for api in ("chat", "responses")}
    saw: dict[str, Any] = await run(shared, program, json.dumps(asked | {"streamed_failure": late}))
    for api, said in asked.items():
        assert counted(3, saw[api]["plain"])
        reached(shared, said)
        shows_failures(shared, said["failures"], saw[api]["failures"])
    assert "context_length_exceeded" in saw["chat"]["failures"]["streamed"]
    assert 1 == len(shared.calls(late))
    return {api: saw[api] for api in asked}


async def test_pydantic_ai(shared: Shared) -> None:
    for seen in (await answers(shared, "pydantic_ai_agents.py")).values():
        assert counted(5, seen["streamed"])
        assert ("Rain in Bern.", "Bern", "Bern") == (seen["loop"], seen["tool"], seen["json"])


async def test_haystack(shared: Shared) -> None:
    for seen in (await answers(shared, "haystack_generators.py")).values():
        text, pieces = seen["streamed"]
        assert counted(5, text)
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
        shows_failures(shared, said["failures"], saw[mode]["failures"])
