"""Tests several models behind one server with the official SDK."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI, NotFoundError

from tests.fake_model import FakeModel
from tests.paths.conftest import sdk
from tests.system import System

pytestmark = pytest.mark.timeout(120)
TOOL: Any = {
    "type": "function",
    "name": "f",
    "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
    "strict": True,
}


def file(tmp_path: Path, chat: FakeModel, passed: FakeModel, down: FakeModel) -> str:
    path = tmp_path / "models.toml"
    path.write_text(
        'default = "plain"\n'
        f'[models.plain]\nbase_url = "{chat.url}"\n'
        f'[models.passed]\nbase_url = "{passed.url}"\napi = "responses"\n'
        f'[models.down]\nbase_url = "{down.url}"\nfallbacks = ["passed"]\n'
        '[prompts.greet]\nmessages = [{ role = "user", content = "Greet {{whom}}" }]\n'
    )
    return str(path)


# The warning comes from pydantic, for an item type that the SDK does not know.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
async def test_each_model_answers_over_its_api_and_a_failed_one_falls_back(
    system: System, tmp_path: Path
) -> None:
    async with (
        FakeModel() as chat,
        FakeModel() as passed,
        FakeModel(mode="503") as down,
    ):
        environ = {"HOLDLINE_MODELS": file(tmp_path, chat, passed, down), "HOLDLINE_MODEL": ""}
        server = await system.server(**environ)
        await system.worker("", **environ)
        async with sdk(server) as client:
            await _check_models_and_templates(client, chat)
            await _check_conversation(client, passed)
            answer = await client.responses.create(input="hi", model="down", service_tier="flex")
            assert ("down", "completed", "flex") == (
                answer.model,
                answer.status,
                answer.service_tier,
            )
            receipt: Any = answer.model_extra
            assert "passed" == receipt["holdline"]["model"]
            assert 1 == len(down.calls)


async def _check_models_and_templates(client: AsyncOpenAI, chat: FakeModel) -> None:
    assert ["down", "passed", "plain"] == [model.id async for model in client.models.list()]
    assert "passed" == (await client.models.retrieve("passed")).id
    with pytest.raises(NotFoundError, match=r"Available models: down, passed, plain\."):
        await client.responses.create(input="hi", model="other")
    with pytest.raises(NotFoundError, match=r"Available prompts: code-review, greet\."):
        await client.responses.create(prompt={"id": "other"})
    answer = await client.responses.create(prompt={"id": "greet", "variables": {"whom": "Ada"}})
    assert ("plain", chat.calls[0].sent) == (answer.model, answer.output_text)
    assert "Greet Ada" == chat.calls[0].prompt
    assert answer.prompt is not None
    assert "greet" == answer.prompt.id


async def _check_conversation(client: AsyncOpenAI, passed: FakeModel) -> None:
    """Checks that the SDK accumulates passed-through items and that the next turn resends them."""
    async with client.responses.stream(input="mode=rich", model="passed", tools=[TOOL]) as stream:
        async for _ in stream:
            pass
        answer = await stream.get_final_response()
    kinds: list[str] = [item.type for item in answer.output]
    assert ["reasoning", "odd_call", "function_call", "message"] == kinds
    assert passed.calls[0].sent == answer.output_text
    again = await client.responses.create(
        previous_response_id=answer.id,
        input=[
            {"type": "function_call_output", "call_id": "call_up", "output": "1"},
            {"role": "user", "content": "And?"},
        ],
        model="passed",
        tools=[TOOL],
    )
    assert "completed" == again.status
    said = [item["type"] for item in passed.calls[1].body["input"]]
    assert ["message", *kinds, "function_call_output", "message"] == said
    assert "opaque" == passed.calls[1].body["input"][1]["encrypted_content"]
    assert "previous_response_id" not in passed.calls[1].body


async def test_a_worker_runs_only_responses_of_the_models_in_its_own_models_file(
    system: System, tmp_path: Path
) -> None:
    async with FakeModel() as fast, FakeModel() as deep:
        both, one = tmp_path / "both.toml", tmp_path / "one.toml"
        one.write_text(f'default = "fast"\n[models.fast]\nbase_url = "{fast.url}"\n')
        both.write_text(f'{one.read_text()}[models.deep]\nbase_url = "{deep.url}"\n')
        server = await system.server(HOLDLINE_MODELS=str(both), HOLDLINE_MODEL="")
        await system.worker("", HOLDLINE_MODELS=str(one), HOLDLINE_MODEL="")
        async with sdk(server) as client:
            waiting = [
                await client.responses.create(input=f"n={n}", model="deep", background=True)
                for n in range(3)
            ]
            for n in range(3):  # the worker claims past the responses that it does not run
                answer = await client.responses.create(input=f"m={n}", model="fast")
                assert "completed" == answer.status
            assert [] == deep.calls
            assert "queued" == (await client.responses.retrieve(waiting[0].id)).status
            await system.worker("", HOLDLINE_MODELS=str(both), HOLDLINE_MODEL="")
            for response in waiting:
                while (found := await client.responses.retrieve(response.id)).status != "completed":
                    assert found.status in {"queued", "in_progress"}
                    await asyncio.sleep(0.05)  # the interval between two polls
        assert 3 == len(deep.calls)
