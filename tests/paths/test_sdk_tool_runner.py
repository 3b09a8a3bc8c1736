"""Tests the official SDK's tool runner, which checks each item, with both kinds of endpoint."""

from __future__ import annotations

from typing import Any

import pytest
from openai.lib.responses_tool_runner import AsyncRegisteredFunction, AsyncResponsesToolRunner

from tests.paths.conftest import CHAT, HOSTED, Shared, sdk

CALL = 'mode=call name=weather args={"location":"Bern"}'
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"location": {"type": "string"}}},
    "strict": False,
}
PROVIDED: list[Any] = [
    {"type": "web_search"},
    {"type": "file_search", "vector_store_ids": ["vs_1"]},
    {"type": "code_interpreter", "container": {"type": "auto"}},
    {"type": "image_generation"},
]
ITEMS = [
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "image_generation_call",
]
MCP: Any = {
    "type": "mcp",
    "server_label": "docs",
    "server_url": "https://docs.example",
    "require_approval": "always",
}


async def weather(arguments: dict[str, object]) -> str:
    return f"Rain in {arguments['location']}."


def runner(function: Any = WEATHER, execute: Any = weather) -> AsyncResponsesToolRunner:
    return AsyncResponsesToolRunner(functions=[AsyncRegisteredFunction(function, execute)])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", [CHAT, HOSTED])
async def test_the_tool_runner_of_the_sdk_calls_a_function(
    upstreams: Shared, model: str, stream: bool
) -> None:
    prompt = upstreams.prompt(CALL)
    async with sdk(upstreams.server) as client:
        answer = await runner().run(
            client, {"model": model, "input": prompt}, stream=stream, eager=stream
        )
    assert "Rain in Bern." == answer.output_text
    assert 2 == len(upstreams.calls(prompt))


@pytest.mark.parametrize("stream", [False, True])
async def test_the_tool_runner_accepts_the_items_of_hosted_tools(
    upstreams: Shared, stream: bool
) -> None:
    """The runner checks each item, and that a stream and its response contain the same items."""
    prompt = upstreams.prompt(f"mode=hosted name={','.join(ITEMS)}")
    async with sdk(upstreams.server) as client:
        answer = await runner().run(
            client, {"model": HOSTED, "input": prompt, "tools": PROVIDED}, stream=stream
        )
    assert [*ITEMS, "message"] == [item.type for item in answer.output]
    [call] = upstreams.calls(prompt)
    assert [WEATHER["name"], *(tool["type"] for tool in PROVIDED)] == [
        tool.get("name", tool["type"]) for tool in call.body["tools"]
    ]


@pytest.mark.parametrize("approve", [False, True])
async def test_the_tool_runner_answers_the_approval_request_of_an_mcp_server(
    upstreams: Shared, approve: bool
) -> None:
    prompt = upstreams.prompt('mode=call name=docs args={"q":"sky"}')
    asked = []

    async def decide(request: Any) -> bool:
        asked.append([request.server_label, request.name, request.arguments])
        return approve

    async with sdk(upstreams.server) as client:
        answer = await runner().run(
            client,
            {"model": HOSTED, "input": prompt, "tools": [MCP]},
            stream=approve,
            approve_mcp=decide,
        )
    assert [["docs", "find", '{"q":"sky"}']] == asked
    assert "found" if approve else "refused" == answer.output_text
    _, second = upstreams.calls(prompt)
    *_, request, response = second.body["input"]
    assert (request["id"], approve) == (response["approval_request_id"], response["approve"])
    mcp = next(tool for tool in second.body["tools"] if tool["type"] == "mcp")
    assert MCP["server_url"] == mcp["server_url"]
