"""Tests the standard's client-side tools on a chat-completions model with the official SDK."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.lib.responses_websocket import ResponsesWebSocketAccumulator
from openai.types.responses import Response

from tests.paths.conftest import Shared

PATCH = {"type": "create_file", "path": "a.txt", "diff": "+a"}
TOOLS: Any = [
    {"type": "custom", "name": "sql", "description": "Runs SQL."},
    {
        "type": "namespace",
        "name": "crm",
        "description": "Customers.",
        "tools": [
            {
                "type": "function",
                "name": "find",
                "parameters": {"type": "object", "properties": {}},
                "strict": False,
                "defer_loading": True,
            }
        ],
    },
    {"type": "local_shell"},
    {"type": "shell", "environment": {"type": "local"}},
    {"type": "apply_patch"},
    {"type": "tool_search"},
]
SHELL_OUTPUT = {"stdout": "b", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}
# The function, its arguments, the members of the call's item, and the result.
CALLS: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "custom_tool_call": (
        "sql",
        '{"input":"select_1"}',
        {"name": "sql", "input": "select_1"},
        {"output": "one"},
    ),
    "function_call": (
        "crm__find",
        '{"id":1}',
        {"name": "find", "namespace": "crm", "arguments": '{"id":1}'},
        {"output": "one"},
    ),
    "local_shell_call": (
        "local_shell",
        '{"command":["ls"]}',
        {"action": {"type": "exec", "command": ["ls"], "env": {}}},
        {"output": "one"},
    ),
    "shell_call": (
        "shell",
        '{"commands":["ls","pwd"]}',
        {"action": {"commands": ["ls", "pwd"]}},
        {"output": [SHELL_OUTPUT]},
    ),
    "apply_patch_call": (
        "apply_patch",
        json.dumps(PATCH, separators=(",", ":")),
        {"operation": PATCH},
        {"status": "completed", "output": "one"},
    ),
}


def only_call(response: Response) -> dict[str, Any]:
    """Returns a response's only output item, as it is on the wire."""
    (call,) = response.output
    return call.model_dump(mode="json", exclude_unset=True)


def result_of(call: dict[str, Any], result: dict[str, Any]) -> Any:
    """Returns the item with the result of a call."""
    named = {"id" if call["type"] == "local_shell_call" else "call_id": call["call_id"]}
    return {"type": f"{call['type']}_output", **named, **result}


@pytest.mark.parametrize("kind", CALLS)
async def test_a_call_and_its_result_make_the_round_trip(
    shared: Shared, client: AsyncOpenAI, kind: str
) -> None:
    name, arguments, members, result = CALLS[kind]
    prompt = shared.prompt(f"mode=call name={name} args={arguments}")
    asked: list[Any] = [{"role": "user", "content": prompt}]
    first = await client.responses.create(input=asked, model="m", tools=TOOLS)
    call = only_call(first)
    assert ("completed", kind) == (first.status, call["type"])
    assert members == {name: call[name] for name in members}

    answer = result_of(call, result)
    kept = await client.responses.create(
        input=[answer], previous_response_id=first.id, model="m", tools=TOOLS
    )
    again = [*asked, call, answer]
    resent = await client.responses.create(input=again, model="m", tools=TOOLS)
    assert kept.output_text == resent.output_text
    assert "b" in kept.output_text or "one" in kept.output_text
    for sent in shared.calls(prompt)[1:]:
        assistant, tool = sent.body["messages"][-2:]
        (told,) = assistant["tool_calls"]
        assert (name, call["call_id"]) == (told["function"]["name"], told["id"])
        given = json.loads(told["function"]["arguments"])
        assert json.loads(arguments).items() <= given.items()
        assert tool["tool_call_id"] == told["id"]


@pytest.mark.parametrize("kind", CALLS)
async def test_the_accumulators_of_the_sdk_accept_the_events(
    shared: Shared, client: AsyncOpenAI, kind: str
) -> None:
    name, arguments, members, _ = CALLS[kind]
    prompt = shared.prompt(f"mode=call name={name} args={arguments}")
    accumulator = ResponsesWebSocketAccumulator()
    async with client.responses.stream(input=prompt, model="m", tools=TOOLS) as stream:
        async for event in stream:
            if event.type != "response.completed":  # the stream replaces this event's type
                accumulator.add_event(event)  # type: ignore[arg-type]
        whole = only_call(await stream.get_final_response())
    assert members == {name: whole[name] for name in members}
    (row,) = accumulator.detailed_snapshot()["output"]
    assert members == {name: row["item"][name] for name in members}


async def test_a_tool_choice_selects_a_tool(shared: Shared, client: AsyncOpenAI) -> None:
    choices: dict[str, Any] = {
        "sql": {"type": "custom", "name": "sql"},
        "shell": {"type": "shell"},
        "apply_patch": {"type": "apply_patch"},
    }
    for name, choice in choices.items():
        prompt = shared.prompt()
        await client.responses.create(input=prompt, model="m", tools=TOOLS, tool_choice=choice)
        (call,) = shared.calls(prompt)
        assert {"type": "function", "function": {"name": name}} == call.body["tool_choice"]
        assert [name] == [tool["function"]["name"] for tool in call.body["tools"]]
