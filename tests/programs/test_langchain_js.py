"""Tests the unmodified LangChain JS library with its own retries."""

from __future__ import annotations

import pytest

from tests.paths.conftest import Shared
from tests.programs.running import CALL, SECONDS, has_tokens, run

pytestmark = pytest.mark.timeout(2 * SECONDS)


async def test_langchain_js(shared: Shared) -> None:
    scripts = "tokens=3", "tokens=5", CALL, 'say={"city":"Bern"}', "mode=narrow at=1"
    prompts = [shared.prompt(script) for script in scripts * 2]
    saw = await run(shared, "langchain_js.mjs", *prompts)
    for way, narrow in (("chat", prompts[4]), ("responses", prompts[9])):
        assert has_tokens(3, saw[way]["plain"])
        assert (7, 3) == (saw[way]["usage"]["input_tokens"], saw[way]["usage"]["output_tokens"])
        assert has_tokens(5, saw[way]["streamed"])
        assert "Rain in Bern." == saw[way]["loop"]
        assert {"city": "Bern"} == saw[way]["object"]
        assert 400 == saw[way]["failure"]["status"]
        assert "longer than the model's context length" in saw[way]["failure"]["message"]
        assert 1 == len(shared.calls(narrow))
