"""Tests how compaction works with endpoints that have the Responses API."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from tests.fake_model import FakeModel
from tests.fake_wire import Call
from tests.paths.conftest import sdk
from tests.paths.messages import said, sent
from tests.system import Server, System, in_module_loop

pytestmark = [pytest.mark.timeout(120), in_module_loop]
CODE = "invalid_encrypted_content"
MODELS = """
default = "chat"
[models.chat]
base_url = "{url}"
[models.responses]
base_url = "{url}"
api = "responses"
[models.refusing]
base_url = "{url}"
api = "responses"
"""


def latest(model: FakeModel) -> Call:
    return model.calls[-1]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(
    module_system: System, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Server, FakeModel]]:
    system, folder = module_system, tmp_path_factory.mktemp("files")
    models, keys = folder / "models.toml", folder / "keys"
    keys.write_text(b64encode(b"k" * 32).decode())
    system.environ |= {
        "HOLDLINE_MODELS": str(models),
        "HOLDLINE_MODEL": "chat",
        "HOLDLINE_ENCRYPTION_KEYS": str(keys),
    }
    async with FakeModel() as model:
        models.write_text(MODELS.format(url=model.url))
        server, _ = await asyncio.gather(system.server(), system.worker(model.url))
        yield server, model


@pytest.fixture
def server(running: tuple[Server, FakeModel]) -> Server:
    return running[0]


@pytest.fixture
def model(running: tuple[Server, FakeModel]) -> FakeModel:
    running[1].reset(tokens=3)
    return running[1]


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
    unknown = {"message": "Unknown parameter", "param": "context_management"}
    model.refuse = lambda body: unknown if "context_management" in body else None
    limits: Any = [{"type": "compaction", "compact_threshold": 1000}]
    history = [said("word " * 1200), said("Yes.", "assistant")]
    for number in range(2):  # the worker remembers the refusal
        async with sdk(server) as client:
            short = await client.responses.create(
                model="refusing", input="x", context_management=limits
            )
            assert ["message"] == [item.type for item in short.output]
            answer = await client.responses.create(
                model="refusing", input=[*history, said("Now?")], context_management=limits
            )
        assert ["compaction", "message"] == [item.type for item in answer.output]
        assert 3 * (number + 1) == len(model.calls)
        summary, question = latest(model).body["input"]
        assert summary["content"][0]["text"].startswith("The following summary")
        assert "Now?" == question["content"][0]["text"]
        assert short.usage
        assert answer.usage
        assert 2 * short.usage.output_tokens == answer.usage.output_tokens


@pytest.mark.parametrize("route", [True, False])
async def test_the_model_writes_the_summary_if_its_endpoint_rejects_the_compaction(
    server: Server, model: FakeModel, route: bool
) -> None:
    model.compacts = []

    def refuse(body: dict[str, Any]) -> dict[str, Any] | None:
        triggers = any(item["type"] == "compaction_trigger" for item in body["input"])
        return {"message": "Not here"} if triggers or "stream" not in body else None

    model.refuse = refuse
    async with sdk(server) as client:
        if route:
            compacted: Any = await client.responses.compact(model="responses", input=[said("Hi")])
        else:
            trigger: Any = {"type": "compaction_trigger"}
            compacted = await client.responses.create(
                model="responses", input=[said("Hi"), trigger]
            )
    assert (["message"] if route else []) + ["compaction"] == [one.type for one in compacted.output]
    assert compacted.output[-1].encrypted_content.startswith("hl1.")
    [call] = model.calls
    assert ["user", "user"] == [item["role"] for item in call.body["input"]]


async def test_the_model_writes_the_summary_if_the_endpoint_ignores_the_limit(
    server: Server, model: FakeModel
) -> None:
    most = 4000

    def refuse(body: dict[str, Any]) -> dict[str, Any] | None:
        long = len(json.dumps(body["input"])) > most
        return {"message": "Too long", "code": "context_length_exceeded"} if long else None

    model.refuse = refuse
    limits: Any = [{"type": "compaction"}]
    old, new = said("old " * 300), said("new " * 300)
    history = [old, said("Yes.", "assistant"), new, said("Yes.", "assistant"), said("fine " * 300)]
    async with sdk(server) as client:
        answer = await client.responses.create(
            model="responses", input=[*history, said("Now?")], context_management=limits
        )
        assert ["compaction", "message"] == [item.type for item in answer.output]
        summary, last = model.calls
        # If the input is too long even for a summary, its oldest turns are left out.
        assert "old" not in json.dumps(summary.body["input"])
        assert "fine" in json.dumps(summary.body["input"])
        shown = [item["content"][0]["text"] for item in last.body["input"]]
        assert shown[0].startswith("The following summary")
        assert "Now?" == shown[-1]
        # A current turn that is too long alone cannot be compacted.
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.create(
                model="responses", input="long " * 1000, context_management=limits
            )
        assert "context_length_exceeded" == refused.value.code
