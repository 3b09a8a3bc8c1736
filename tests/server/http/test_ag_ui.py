"""Tests the routes for AG-UI, with a worker that the test controls."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from jobs.log.codec import encode_event
from jobs.log.events import restarted
from server.http.frontends import ag_ui
from tests.server.ag_ui import API, BODY, HELLO, events, types
from tests.server.conftest import Client
from tests.server.factories import Worker


async def ran(client: Client, worker: Worker, body: dict[str, Any], *pieces: str) -> list[Any]:
    asking = asyncio.create_task(client.post(API, json=body))
    await worker.answer(*pieces)
    async with await asking as answer:
        return events(await answer.text())


async def test_an_answer_is_a_run(client: Client, worker: Worker) -> None:
    found = await ran(client, worker, BODY, "So", " it is.")
    assert ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT"] == types(found)[:3]
    assert ["TEXT_MESSAGE_END", "RUN_FINISHED"] == types(found)[-2:]
    assert ("thread-1", "run-1") == (found[-1]["threadId"], found[-1]["runId"])
    assert "So it is." == "".join(event.get("delta", "") for event in found)


async def test_a_repeated_run_is_the_same_answer_without_the_part_that_the_client_has(
    client: Client, worker: Worker
) -> None:
    first = await ran(client, worker, BODY, "So", " it is.")
    id_ = first[1]["messageId"]
    partly = {"id": id_, "role": "assistant", "content": "So"}
    thought = {"id": "thought", "role": "reasoning", "content": "Hm"}
    again = {**BODY, "messages": [HELLO, thought, partly]}
    async with client.post(API, json=again) as answer:
        found = events(await answer.text())
    snapshot = {"type": "MESSAGES_SNAPSHOT", "messages": [HELLO, {**thought, "content": ""}]}
    assert [first[0], snapshot, *first[1:]] == found


async def test_a_stream_continues_after_each_event(client: Client, worker: Worker) -> None:
    asking = asyncio.create_task(client.post(API, json=BODY))
    await worker.answer("So", " it is.")
    async with await asking as answer:
        text = await answer.text()
        stream = f"{API}/{answer.headers['X-Response-Id']}/stream?thread_id=thread-1&run_id=run-1"
    whole, seen = events(text), list[Any]()
    for block in text.split("\n\n"):
        seen += events(block)
        if "id: " not in block:
            continue
        after = block.partition("id: ")[2].partition("\n")[0]
        async with client.get(f"{stream}&starting_after={after}") as answer:
            assert whole == seen + events(await answer.text())


@pytest.mark.parametrize("small", [True, False])
async def test_a_restart_removes_the_answer_so_far(
    client: Client, worker: Worker, monkeypatch: pytest.MonkeyPatch, small: bool
) -> None:
    monkeypatch.setattr(ag_ui, "MAX_SNAPSHOT_BYTES", 10_000 if small else 0)
    asking = asyncio.create_task(client.post(API, json=BODY))
    taken = await worker.take()
    await taken.say("Wrong")
    async with await asking as answer:
        await taken.writer.append([encode_event(restarted(taken.job, 2, "worker_lost"))])
        await taken.complete()
        found = events(await answer.text())
    discarded = types(found)[3:]
    assert "TEXT_MESSAGE_END" == discarded[0]
    if small:
        assert ("MESSAGES_SNAPSHOT", "RUN_FINISHED") == (discarded[1], discarded[-1])
        assert [HELLO] == found[4]["messages"]
    else:
        assert ["RUN_ERROR"] == discarded[1:]


async def test_messages_context_tools_and_parameters_reach_the_response(
    client: Client, worker: Worker
) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    image = {"type": "image", "source": {"type": "data", "value": "AAAA", "mimeType": "image/png"}}
    messages = [
        {**HELLO, "content": [{"type": "text", "text": "Look."}, image]},
        {"id": "m2", "role": "reasoning", "content": "Hm"},
        {"id": "m3", "role": "assistant", "toolCalls": [call]},
        {"id": "m4", "role": "tool", "toolCallId": "call_1", "content": "4"},
    ]
    body = {
        **BODY,
        "messages": messages,
        "context": [{"description": "The user's city", "value": "Bern"}],
        "tools": [{"name": "f", "description": "A function.", "parameters": {"type": "object"}}],
        "forwardedProps": {"config": 1, "holdline": {"instructions": "Be brief."}},
    }
    asking = asyncio.create_task(client.post(API, json=body))
    taken = await worker.answer("So.")
    async with await asking as answer:
        await answer.read()
    params = taken.job.params
    kinds = [item["type"] for item in params["input"]]
    assert ["message", "message", "function_call", "function_call_output"] == kinds
    assert "Bern" in json.dumps(params["input"][0])
    assert "Be brief." == params["instructions"]
    assert ["f"] == [tool["name"] for tool in params["tools"]]


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": [{"id": "a", "role": "assistant", "content": "x"}]}, "messages"),
        ({"messages": [{"id": "m", "role": "robot"}]}, "messages[0].role"),
        ({"messages": [{"id": "m", "role": ["user"]}]}, "messages[0].role"),
        ({"messages": [{"id": "m", "role": {}}, HELLO]}, "messages[0].role"),
        ({"messages": [{**HELLO, "content": [{"type": "video"}]}]}, "messages[0].content[0].type"),
        (
            {
                "messages": [{"id": "r", "role": "reasoning"}, {"id": "m", "role": "robot"}],
                "context": [{"description": "x", "value": "y"}],
            },
            "messages[1].role",
        ),
        ({"messages": [{**HELLO, "extra": [2**70]}]}, "messages[0].extra[0]"),
        ({"threadId": None}, "threadId"),
        ({"runId": ""}, "runId"),
        ({"resume": [{"interruptId": "i"}]}, "resume"),
        ({"context": [{"description": "x"}]}, "context[0]"),
        ({"forwardedProps": {"holdline": {"input": "x"}}}, "forwardedProps.holdline.input"),
        (
            {"forwardedProps": {"holdline": {"temperature": 9}}},
            "forwardedProps.holdline.temperature",
        ),
        ({"colour": "blue"}, "colour"),
    ],
)
async def test_a_wrong_run_is_refused_by_the_name_of_its_field(
    client: Client, wrong: dict[str, Any], param: str
) -> None:
    async with client.post(API, json={**BODY, **wrong}) as answer:
        assert 400 == answer.status
        assert param == (await answer.json())["error"]["param"]
