"""Tests that a provider's own tools stream and last through Holdline, with the official SDK."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, get_args

import pytest
import pytest_asyncio
from openai import AsyncOpenAI, BadRequestError
from openai.types.responses import ResponseStreamEvent

from tests import fake_hosted
from tests.fake_model import FakeModel
from tests.paths.conftest import sdk
from tests.system import Process, Server, System, in_module_loop

pytestmark = [pytest.mark.timeout(120), in_module_loop]
KNOWN = {
    kind
    for one in get_args(get_args(ResponseStreamEvent)[0])
    for kind in get_args(one.model_fields["type"].annotation)
}
TOOLS: list[Any] = [
    {"type": "web_search", "filters": {"allowed_domains": ["a.example"]}},
    {"type": "file_search", "vector_store_ids": ["vs_1"]},
    {"type": "code_interpreter", "container": {"type": "auto"}},
    {"type": "image_generation", "partial_images": 2},
    {"type": "mcp", "server_label": "m", "server_url": "https://m.example", "headers": None},
    {"type": "custom", "name": "c"},
    {"type": "local_shell"},
    {"type": "shell", "environment": {"type": "container_auto"}},
    {"type": "apply_patch"},
    {"type": "computer"},
    {
        "type": "namespace",
        "name": "n",
        "description": "N",
        "tools": [
            {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}
        ],
    },
]
PARAMETERS: Any = {
    "include": ["web_search_call.action.sources", "reasoning.encrypted_content"],
    "prompt_cache_key": "k",
    "prompt_cache_options": {"ttl": "30m"},
    "safety_identifier": "s",
    "reasoning": {"effort": "max", "mode": "pro"},
    "max_tool_calls": 5,
    "moderation": {"model": "omni-moderation-latest"},
}
SCREEN = {"type": "computer_screenshot", "image_url": "data:image/png;base64,AA=="}
RESULTS: list[Any] = [
    {"type": "custom_tool_call_output", "call_id": "call_c", "output": "done"},
    {"type": "shell_call_output", "call_id": "call_s", "output": []},
    {"type": "apply_patch_call_output", "call_id": "call_p", "status": "completed"},
    {"type": "computer_call_output", "call_id": "call_u", "output": SCREEN},
    {"type": "function_call_output", "call_id": "call_f", "output": "done"},
    {"type": "local_shell_call_output", "id": "call_l", "output": "{}"},
]


@dataclass
class Running:
    """A system whose only model endpoint is the provider, and its worker."""

    system: System
    provider: FakeModel
    server: Server
    worker: Process

    async def replace_worker(self) -> None:
        await self.worker.kill()
        self.worker = await self.system.worker("")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(
    module_system: System, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Running]:
    models = tmp_path_factory.mktemp("models") / "models.toml"
    module_system.environ |= {"HOLDLINE_MODELS": str(models), "HOLDLINE_MODEL": ""}
    async with FakeModel() as provider:
        models.write_text(
            'default = "r"\n'
            f'[models.r]\nbase_url = "{provider.url}"\napi = "responses"\n'
            f'[models.c]\nbase_url = "{provider.url}"\n'
            f'[models.d]\nbase_url = "{provider.url}"\nunsupported_tools = "drop"\n'
        )
        server, worker = await asyncio.gather(module_system.server(), module_system.worker(""))
        yield Running(module_system, provider, server, worker)


@pytest.fixture
def provider(running: Running) -> FakeModel:
    running.provider.reset()
    return running.provider


@pytest_asyncio.fixture(loop_scope="module")
async def client(running: Running) -> AsyncIterator[AsyncOpenAI]:
    async with sdk(running.server) as client:
        yield client


def upstream(item: dict[str, Any]) -> dict[str, Any]:
    """Returns an item without its id, which is Holdline's, and without empty members."""
    return {name: value for name, value in item.items() if value is not None and name != "id"}


def check_output(output: list[Any]) -> None:
    """Checks that a response has all items of the provider, under ids of Holdline."""
    shown = [item.to_dict() for item in output]
    # A function call has more members than the provider sent.
    assert [upstream(item) for item in fake_hosted.ITEMS] == [
        {name: value for name, value in upstream(item).items() if name in sent or name == "type"}
        for item, sent in zip(shown, fake_hosted.ITEMS, strict=False)
    ]
    assert len(fake_hosted.ITEMS) + 1 == len(shown)
    ids = [item["id"] for item in shown]
    assert len(ids) == len(set(ids))
    assert not any(id_.endswith("_up") for id_ in ids)
    for item, sent in zip(shown, fake_hosted.ITEMS, strict=False):
        assert item["id"].partition("_")[0] == sent["id"].partition("_")[0]


async def test_each_hosted_tool_streams_under_our_ids_and_can_be_continued(
    provider: FakeModel, client: AsyncOpenAI
) -> None:
    stream = await client.responses.create(
        input="mode=hosted times=1", tools=TOOLS, stream=True, **PARAMETERS
    )
    events: list[Any] = [event async for event in stream]

    assert list(range(len(events))) == [event.sequence_number for event in events]
    assert {event.type for event in events} <= KNOWN
    sent = [
        f"response.{name}"
        for item in fake_hosted.ITEMS
        for name, _ in fake_hosted.EVENTS.get(item["type"], [])
    ]
    assert sent == [event.type for event in events if event.type in sent]
    answer = events[-1].response
    check_output(answer.output)
    shown = answer.to_dict()
    assert fake_hosted.REPORTED == {name: shown[name] for name in fake_hosted.REPORTED}
    assert shown["instructions"] is None
    assert {"ttl": "30m"} == shown["prompt_cache_options"]
    for event in events:
        if hasattr(event, "item_id"):
            assert answer.output[event.output_index].id == event.item_id
    pieces = [e.delta for e in events if e.type == "response.code_interpreter_call_code.delta"]
    assert fake_hosted.CODE == "".join(pieces)

    body = provider.calls[0].body
    assert TOOLS == body["tools"]
    assert PARAMETERS == {name: body[name] for name in PARAMETERS}
    approval = next(item for item in answer.output if item.type == "mcp_approval_request")
    allowed: Any = {
        "type": "mcp_approval_response",
        "approval_request_id": approval.id,
        "approve": True,
    }
    await client.responses.create(
        previous_response_id=answer.id, input=[allowed, *RESULTS], tools=TOOLS
    )
    check_history(provider.calls[1].body["input"])
    # A client without stored responses sends all items itself.
    asked: list[Any] = [{"role": "user", "content": "mode=hosted times=1"}]
    said: list[Any] = [item.to_dict() for item in answer.output]
    await client.responses.create(input=[*asked, *said, allowed, *RESULTS], tools=TOOLS)
    check_history(provider.calls[2].body["input"])


def check_history(items: list[dict[str, Any]]) -> None:
    """Checks that the provider gets its items back, and that their references are intact."""
    kinds = [item["type"] for item in items]
    assert [item["type"] for item in fake_hosted.ITEMS] == kinds[1 : len(fake_hosted.ITEMS) + 1]
    found = {item["type"]: item for item in items}
    assert "sealed" == found["reasoning"]["encrypted_content"]
    request, answer = found["mcp_approval_request"], found["mcp_approval_response"]
    assert request["id"] == answer["approval_request_id"]
    assert "call_l" == found["local_shell_call_output"]["id"]
    assert "n" == found["function_call"]["namespace"]
    for kind in ("custom_tool_call", "shell_call", "apply_patch_call", "function_call"):
        assert "id" not in found[kind]
        assert 1 == kinds.count(f"{kind}_output")
    for item in fake_hosted.ITEMS:
        kept = {name: found[item["type"]].get(name) for name in upstream(item)}
        if item["type"] not in ("function_call", "reasoning", "custom_tool_call"):
            assert upstream(item) == kept


async def test_hosted_tools_restart_once_after_a_workers_death(
    running: Running, provider: FakeModel, client: AsyncOpenAI
) -> None:
    started = await client.responses.create(
        input="mode=hosted pace=0.05", tools=TOOLS, background=True
    )
    wanted = "response.code_interpreter_call_code.delta"
    seen: list[Any] = []
    async for event in await client.responses.retrieve(started.id, stream=True):
        seen.append(event)
        if event.type == wanted and sum(e.type == wanted for e in seen) == 5:
            provider.script = {"pace": 0.0}
            await running.replace_worker()

    assert 1 == sum(event.type == "holdline:restarted" for event in seen)
    assert ("response.completed", 2) == (seen[-1].type, len(provider.calls))
    check_output(seen[-1].response.output)
    # The item that was cut off has the code that had arrived.
    cut = next(
        event.item
        for event in seen
        if event.type == "response.output_item.done" and event.item.status == "incomplete"
    )
    assert "code_interpreter_call" == cut.type
    assert cut.code
    assert fake_hosted.CODE.startswith(cut.code)


async def test_the_first_request_of_a_coding_agent_is_accepted(
    provider: FakeModel, client: AsyncOpenAI
) -> None:
    """Codex CLI sends these parameters and kinds of tools with its default switches."""
    asked: Any = {
        "input": [
            {"type": "message", "id": "msg_0f", "role": "developer", "content": "Be precise."},
            {
                "type": "message",
                "id": "msg_1f",
                "role": "user",
                "content": [{"type": "input_text", "text": "Say hi."}],
            },
        ],
        "tools": [
            {"type": "function", "name": "exec", "strict": False, "parameters": {}},
            *TOOLS[-1:],
            {"type": "web_search", "external_web_access": False},
        ],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"summary": "auto"},
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "k",
        "extra_body": {"client_metadata": {"turn_id": "t", "session_id": "s"}},
    }
    for model, tools in (("r", ["exec", "n", "web_search"]), ("d", ["exec", "n__f"])):
        answer = await client.responses.create(model=model, **asked)
        assert "completed" == answer.status
        sent = [tool.get("function", tool) for tool in provider.calls[-1].body["tools"]]
        assert tools == [tool.get("name") or tool["type"] for tool in sent]
        assert "client_metadata" not in provider.calls[-1].body
    with pytest.raises(BadRequestError, match="web_search"):
        await client.responses.create(model="c", **asked)


async def test_a_request_to_prepare_the_cache_ends_without_output(
    provider: FakeModel, client: AsyncOpenAI
) -> None:
    answer = await client.responses.create(input="x", prompt_cache_options={"prewarm": True})
    assert ("completed", [], 0) == (answer.status, answer.output, len(provider.calls))


async def test_a_chat_model_refuses_hosted_tools_by_name_or_leaves_them_out(
    provider: FakeModel, client: AsyncOpenAI
) -> None:
    with pytest.raises(
        BadRequestError, match=r"'web_search'.*Use a model that can: r\."
    ) as refused:
        await client.responses.create(input="x", model="c", tools=TOOLS)
    assert "tools[0].type" == refused.value.param
    first = await client.responses.create(input="mode=hosted times=1", tools=TOOLS)
    said: list[Any] = [item.to_dict() for item in first.output]
    answer = await client.responses.create(input=[*said, *RESULTS], model="d", tools=TOOLS)
    receipt: Any = answer.model_extra
    dropped = {"computer", "code_interpreter", "file_search", "image_generation", "mcp", "shell"}
    assert sorted({*dropped, "web_search"}) == receipt["holdline"]["dropped_tools"]
    assert "mcp_approval_request" in receipt["holdline"]["dropped_items"]
    names = [tool["function"]["name"] for tool in provider.calls[-1].body["tools"]]
    assert ["c", "local_shell", "apply_patch", "n__f"] == names
    # An earlier turn of another model is no reason to refuse a request.
    more = await client.responses.create(
        previous_response_id=first.id, input=RESULTS[:1], model="c", tools=TOOLS[5:6]
    )
    assert "completed" == more.status
    assert "custom" not in json.dumps(receipt["holdline"])
