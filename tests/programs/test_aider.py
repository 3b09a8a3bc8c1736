"""Tests the unmodified aider program with its own retries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fake_wire import Call
from tests.paths.conftest import Shared
from tests.system import clean_environ, run_command

from .running import SECONDS, environment

AIDER = environment("aider") / "aider"
MODEL = {"litellm_provider": "openai", "mode": "chat", "max_input_tokens": 8192}

pytestmark = [pytest.mark.timeout(2 * SECONDS), pytest.mark.heavy]


async def ask(shared: Shared, folder: Path, prompt: str) -> tuple[str, list[Call]]:
    """Runs one turn about `rain.py`, which must succeed. Returns the output and the model calls."""
    metadata = folder / "metadata.json"
    metadata.write_text(json.dumps({"openai/m": MODEL}))
    output = await run_command(
        str(AIDER),
        *("--model", "openai/m", "--model-metadata-file", str(metadata)),
        *("--edit-format", "whole", "--no-git", "--map-tokens", "0"),
        *("--yes-always", "--no-pretty", "--analytics-disable", "--no-check-update"),
        *("--no-show-model-warnings", "--no-show-release-notes"),
        *("--message", prompt, "rain.py"),
        cwd=folder,
        environ={
            **clean_environ(),
            "HOME": str(folder),
            "OPENAI_API_BASE": f"{shared.server.url}/v1",
            "OPENAI_API_KEY": "any",
            # Without this setting, LiteLLM, which aider uses, would download its price list.
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "NO_PROXY": "127.0.0.1",
            # Without this setting, aider would open a browser when the context overflows.
            "BROWSER": "true",
        },
    )
    # Only the start of the prompt is compared, because aider appends its own instructions.
    return output, [call for call in list(shared.model.calls) if call.prompt.startswith(prompt)]


async def test_aider_edits_a_file(shared: Shared, tmp_path: Path) -> None:
    prompt = shared.prompt('say=rain.py|```|print("Rain")|```|')
    _, calls = await ask(shared, tmp_path, prompt)
    assert 'print("Rain")\n' == (tmp_path / "rain.py").read_text()
    assert 1 == len(calls)


async def test_aider_recognizes_an_input_that_is_too_long(shared: Shared, tmp_path: Path) -> None:
    output, calls = await ask(shared, tmp_path, shared.prompt("mode=narrow at=1"))
    assert "Model openai/m has hit a token limit!" in output
    assert 1 == len(calls)
