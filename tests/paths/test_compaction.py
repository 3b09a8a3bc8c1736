"""Tests that conversations are compacted, with the official SDK and both kinds of endpoint."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.responses import ResponseCompactionItem

from tests.fake_model import FakeModel
from tests.fake_wire import Call
from tests.paths.conftest import Shared, sdk
from tests.system import Server, System, wait_until

pytestmark = pytest.mark.timeout(120)
CODE = "invalid_encrypted_content"
MODELS = """
default = "chat"
[models.chat]
base_url = "{url}"
[models.responses]
base_url = "{url}"
api = "responses"
"""


def said(text: Any, role: str = "user") -> Any:
    return {"type": "message", "role": role, "content": text}


def shown(call: Call) -> list[str]:
    """Returns the texts that a call of a chat model contains."""
    return [
        content if isinstance(content := message["content"], str) else content[0]["text"]
        for message in call.body["messages"]
    ]


def sent(output: list[Any]) -> list[Any]:
    """Returns output items as a client sends them back."""
    return [item.to_dict(warnings=False) for item in output]


def latest(model: FakeModel) -> Call:
    return model.calls[-1]


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel(tokens=3) as model:
        yield model


@pytest.fixture
async def server(model: FakeModel, redis_url: str, tmp_path: Path) -> AsyncIterator[Server]:
    models = tmp_path / "models.toml"
    models.write_text(MODELS.format(url=model.url))
    keys = tmp_path / "keys"
    keys.write_text(b64encode(b"k" * 32).decode())
    both = {
        "HOLDLINE_MODELS": str(models),
        "HOLDLINE_MODEL": "chat",
        "HOLDLINE_ENCRYPTION_KEYS": str(keys),
    }
    async with System(redis_url, tmp_path) as system:
        server, _ = await asyncio.gather(system.server(**both), system.worker(model.url, **both))
        yield server


async def test_compact_returns_the_user_messages_and_one_compaction_item(
    shared: Shared, client: AsyncOpenAI
) -> None:
    prompt = shared.prompt()
    compacted = await client.responses.compact(
        model="demo",
        instructions="Be brief.",
        input=[said(prompt), said("An answer.", "assistant"), said("say=The_summary.")],
    )
    assert "response.compaction" == compacted.object
    assert compacted.usage.output_tokens
    kinds = [item.type for item in compacted.output]
    assert ["message", "message", "compaction"] == kinds
    first: Any = compacted.output[0]
    assert ("user", prompt) == (first.role, first.content[0].text)
    item = compacted.output[2]
    assert isinstance(item, ResponseCompactionItem)
    assert "summary" not in item.encrypted_content
    call = next(
        call
        for call in shared.model.calls
        if len(call.body["messages"]) > 1 and prompt in shown(call)
    )
    assert ["Be brief.", prompt, "An answer.", "say=The_summary."] == shown(call)[:4]
    assert "Write a summary" in shown(call)[4]

    # The item is readable after the stored response is gone.
    await client.responses.delete(compacted.id)
    follow = shared.prompt()
    answer = await client.responses.create(
        model="demo", input=[*sent(compacted.output), said(follow)]
    )
    [call] = shared.calls(follow)
    assert [prompt, "say=The_summary."] == shown(call)[:2]
    summary = shown(call)[2]
    assert summary.startswith("The following summary")
    assert [follow] == shown(call)[3:]
    assert "completed" == answer.status


async def test_a_compacted_response_can_be_continued_by_its_id(
    shared: Shared, client: AsyncOpenAI, elsewhere: AsyncOpenAI
) -> None:
    first = await client.responses.create(model="demo", input=shared.prompt("say=secret_answer"))
    compacted = await elsewhere.responses.compact(model="demo", previous_response_id=first.id)
    follow = shared.prompt()
    await client.responses.create(model="demo", input=follow, previous_response_id=compacted.id)
    [call] = shared.calls(follow)
    assert 3 == len(shown(call))
    assert shown(call)[1].startswith("The following summary")
    again = await client.responses.compact(model="demo", input=sent(compacted.output))
    assert ["message", "compaction"] == [item.type for item in again.output]


async def test_a_repeated_compaction_calls_the_model_once(
    shared: Shared, client: AsyncOpenAI
) -> None:
    prompt = shared.prompt()
    key = {"Idempotency-Key": prompt}
    asked: Any = {"model": "demo", "input": [said(prompt)], "extra_headers": key}
    before = len(shared.model.calls)
    first = await client.responses.compact(**asked)
    assert first == await client.responses.compact(**asked)
    mine = [call for call in shared.model.calls[before:] if prompt in shown(call)]
    assert 1 == len(mine)
    with pytest.raises(openai.UnprocessableEntityError):
        await client.responses.create(model="demo", input=[said(prompt)], extra_headers=key)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"model": "demo"}, "invalid_value", "input"),
        ({"model": "demo", "input": "x", "stream": True}, "unknown_parameter", "stream"),
        ({"model": "demo", "input": 5}, "invalid_value", "input"),
        (
            {"model": "demo", "previous_response_id": "resp_" + "0" * 35},
            "previous_response_not_found",
            "previous_response_id",
        ),
    ],
)
async def test_an_invalid_compaction_is_refused_by_name(
    shared: Shared, body: dict[str, Any], code: str, param: str
) -> None:
    async with aiohttp.ClientSession() as http:
        url = f"{shared.server.url}/v1/responses/compact"
        async with http.post(url, json=body) as response:
            error = (await response.json())["error"]
    assert (400, code, param) == (response.status, error["code"], error["param"])


@pytest.mark.parametrize("content", ["gAAAAB-of-a-provider", "hl1.", "hl1.!!", "hl1.AAAA"])
async def test_a_foreign_or_broken_compaction_item_is_refused_by_name(
    client: AsyncOpenAI, content: str
) -> None:
    item: Any = {"type": "compaction", "encrypted_content": content}
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(model="demo", input=[said("x"), item])
    assert (CODE, "input[1].encrypted_content") == (refused.value.code, refused.value.param)


async def test_a_trigger_compacts_and_the_next_turn_continues(
    shared: Shared, client: AsyncOpenAI
) -> None:
    first = await client.responses.create(model="demo", input=shared.prompt())
    trigger: Any = {"type": "compaction_trigger"}
    stream = await client.responses.create(
        model="demo", input=[trigger], previous_response_id=first.id, stream=True
    )
    events = [event async for event in stream]
    end: Any = events[-1]
    assert ["compaction"] == [item.type for item in end.response.output]
    follow = shared.prompt()
    await client.responses.create(model="demo", input=follow, previous_response_id=end.response.id)
    [call] = shared.calls(follow)
    assert 2 == len(shown(call))
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(model="demo", input=[trigger, said("x")])
    assert "input[0]" == refused.value.param
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(model="demo", input=[trigger])
    assert "input" == refused.value.param


async def test_a_context_above_the_threshold_is_compacted_before_the_answer(
    shared: Shared, client: AsyncOpenAI
) -> None:
    limits: Any = [{"type": "compaction", "compact_threshold": 1000}]
    short = shared.prompt()
    first = await client.responses.create(model="demo", input=short, context_management=limits)
    assert ["message"] == [item.type for item in first.output]
    assert 1 == len(shared.calls(short))

    long = shared.prompt("word " * 1200)
    second = await client.responses.create(
        model="demo", input=long, previous_response_id=first.id, context_management=limits
    )
    assert ["compaction", "message"] == [item.type for item in second.output]
    [call] = [call for call in shared.model.calls if call.prompt.strip() == long.strip()]
    assert 2 == len(shown(call))
    assert shown(call)[0].startswith("The following summary")

    follow = shared.prompt()
    third = await client.responses.create(
        model="demo", input=follow, previous_response_id=second.id, context_management=limits
    )
    assert ["message"] == [item.type for item in third.output]
    [call] = shared.calls(follow)
    assert shown(call)[0].startswith("The following summary")
    assert 3 == len(shown(call))
    for invalid in ({"type": "other"}, {"type": "compaction", "compact_threshold": 1}):
        with pytest.raises(openai.BadRequestError, match="context_management"):
            await client.responses.create(
                model="demo",
                input="x",
                context_management=[invalid],  # type: ignore[list-item]
            )


async def test_an_item_passes_between_models_but_not_if_it_was_changed(
    server: Server, model: FakeModel
) -> None:
    async with sdk(server) as client:
        compacted = await client.responses.compact(model="chat", input=[said("say=Blue.")])
        item = sent(compacted.output)[-1]
        await client.responses.create(model="responses", input=[item, said("And now?")])
        asked = latest(model).body["input"]
        assert ["user", "user"] == [one["role"] for one in asked]
        assert asked[0]["content"][0]["text"].startswith("The following summary")
        changed: Any = {**item, "encrypted_content": item["encrypted_content"][:-8] + "AAAAAAA="}
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.create(model="responses", input=[changed, said("x")])
        assert CODE == refused.value.code
        # A provider gets its own items back.
        own: Any = {"type": "compaction", "encrypted_content": "of-the-provider"}
        await client.responses.create(model="responses", input=[own, said("x")])
        assert own == latest(model).body["input"][0]


async def test_an_endpoint_that_can_compact_does_it(server: Server, model: FakeModel) -> None:
    user = {**said([{"type": "input_text", "text": "Hi"}]), "id": "msg_up"}
    model.compacts = [user, {"type": "compaction", "id": "cmp_up", "encrypted_content": "up"}]
    limits: Any = [{"type": "compaction", "compact_threshold": 1000}]
    async with sdk(server) as client:
        compacted = await client.responses.compact(model="responses", input=[said("Hi")])
        assert {"model": "responses", "input": [said("Hi")]} | latest(model).body == latest(
            model
        ).body
        assert "stream" not in latest(model).body
        message, item = sent(compacted.output)
        assert ("user", "Hi") == (message["role"], message["content"][0]["text"])
        assert ("up", True) == (item["encrypted_content"], item["id"].startswith("cmp_"))
        assert "cmp_up" != item["id"]
        assert 5 == compacted.usage.input_tokens
        await client.responses.create(model="responses", input="x", context_management=limits)
        assert limits == latest(model).body["context_management"]
        # Without such a route, the model writes the summary.
        model.compacts = None
        compacted = await client.responses.compact(model="responses", input=[said("Hi")])
        assert sent(compacted.output)[-1]["encrypted_content"].startswith("hl1.")


async def test_the_model_writes_the_summary_if_its_endpoint_refuses_the_parameter(
    server: Server, model: FakeModel
) -> None:
    model.refuses = "context_management"
    limits: Any = [{"type": "compaction", "compact_threshold": 1000}]
    history = [said("word " * 1200), said("Yes.", "assistant")]
    for number in range(2):  # the worker remembers the refusal
        async with sdk(server) as client:
            short = await client.responses.create(
                model="responses", input="x", context_management=limits
            )
            assert ["message"] == [item.type for item in short.output]
            answer = await client.responses.create(
                model="responses", input=[*history, said("Now?")], context_management=limits
            )
        assert ["compaction", "message"] == [item.type for item in answer.output]
        assert 3 * (number + 1) == len(model.calls)
        summary, question = latest(model).body["input"]
        assert summary["content"][0]["text"].startswith("The following summary")
        assert "Now?" == question["content"][0]["text"]
        assert short.usage
        assert answer.usage
        assert 2 * short.usage.output_tokens == answer.usage.output_tokens


async def test_a_compaction_survives_the_death_of_its_worker(
    redis_url: str, tmp_path: Path, model: FakeModel
) -> None:
    model.script = {"mode": "slow", "pace": "0.2", "tokens": "20"}
    async with System(redis_url, tmp_path) as system:
        server, worker = await asyncio.gather(system.server(), system.worker(model.url))
        async with sdk(server) as client:
            asked = asyncio.create_task(client.responses.compact(model="m", input=[said("Hi")]))
            await wait_until(lambda: model.calls and model.calls[0].sent)
            await worker.kill()
            model.script = {"tokens": "3"}
            await system.worker(model.url)
            compacted = await asked
    assert ["message", "compaction"] == [item.type for item in compacted.output]
    assert 2 == len(model.calls)
    assert json.dumps(model.calls[0].body) == json.dumps(model.calls[1].body)
