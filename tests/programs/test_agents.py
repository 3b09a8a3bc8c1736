"""Tests unmodified AutoGen and Semantic Kernel agents with their own retries."""

from __future__ import annotations

import pytest

from tests.paths.conftest import Shared
from tests.programs.running import CALL, SECONDS, environment, run

AGENTS = environment("agents") / "python"

pytestmark = [pytest.mark.timeout(2 * SECONDS), pytest.mark.heavy]


async def check_agent(shared: Shared, program: str, call: str) -> None:
    """Checks a tool loop and two failures.

    For each failure, the program must call the model once and show the reason.
    """
    narrow, locked = shared.prompt("mode=narrow at=1"), shared.prompt("mode=401")
    saw = await run(shared, program, shared.prompt(call), narrow, locked, python=AGENTS)
    assert "Rain in Bern." == saw["loop"]
    assert "longer than the model's context length" in saw["failures"][0]
    assert "rejected this server's API key" in saw["failures"][1]
    assert [1, 1] == [len(shared.calls(prompt)) for prompt in (narrow, locked)]


async def test_autogen(shared: Shared) -> None:
    await check_agent(shared, "autogen_chat.py", CALL)


async def test_semantic_kernel(shared: Shared) -> None:
    await check_agent(shared, "semantic_kernel_chat.py", f"{CALL} name=Weather-weather")
