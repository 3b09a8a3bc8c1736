"""Tests that the unmodified guidellm counts answers, tokens and failures correctly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.paths.conftest import Shared
from tests.system import clean_environ, run_command

from .running import environment

# The timeout is long, because guidellm takes a long time to import torch.
SECONDS = 400

pytestmark = [pytest.mark.timeout(SECONDS), pytest.mark.heavy]


async def test_guidellm(shared: Shared, tmp_path: Path) -> None:
    answered, failed = shared.prompt("tokens=3"), shared.prompt("mode=narrow at=1")
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": each}) + "\n" for each in (answered, failed)))
    await run_command(
        *(str(environment("guidellm") / "guidellm"), "run", "--disable-console"),
        *("--backend", f"kind=openai_http,target={shared.server.url},model=m"),
        *("--profile", "kind=synchronous", "--constraint", "kind=max_requests,count=2"),
        *("--data", f"kind=json_file,path={prompts}", "--output", "kind=json,path=report.json"),
        cwd=tmp_path,
        environ={
            **clean_environ(),
            "HOME": str(tmp_path),
            "HF_HUB_OFFLINE": "1",
            "NO_PROXY": "127.0.0.1",
        },
    )
    report = json.loads((tmp_path / "report.json").read_text())
    requests = report["benchmarks"][0]["requests"]
    (good,), (bad,) = requests["successful"], requests["errored"]
    assert shared.answer_to(answered) == good["output"].strip()
    assert 3 == good["output_tokens"]
    assert "400 Bad Request" in bad["info"]["error"]
    assert [1, 1] == [len(shared.calls(prompt)) for prompt in (answered, failed)]
