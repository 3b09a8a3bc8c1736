"""Tests the routes for the AI SDK's `useChat`, with a worker that the test controls."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import ClientPayloadError

from jobs.ids import item_id
from jobs.log import items
from jobs.log.codec import encode_event
from jobs.log.events import restarted
from server.app import SERVER
from tests.server.conftest import Client
from tests.server.factories import Worker

API = "/v1/ai-sdk"
HELLO: dict[str, Any] = {
    "id": "m1",
    "role": "user",
    "parts": [{"type": "text", "text": "Why is the sky blue?"}],
}
BODY: dict[str, Any] = {"id": "chat-1", "messages": [HELLO], "trigger": "submit-message"}
TOOL = {
    "type": "tool-weather",
    "toolCallId": "call_1",
    "state": "output-available",
    "input": {"city": "Oslo"},
    "output": {"sky": "grey"},
}
CALLED: dict[str, Any] = {"id": "m2", "role": "assistant", "parts": [{"type": "step-start"}, TOOL]}


def chunks(text: str) -> list[Any]:
    """Returns the chunks of a UI message stream, without the final `[DONE]`."""
    found = [line.removeprefix("data: ") for line in text.splitlines() if line[:6] == "data: "]
    if found and found[-1] == "[DONE]":
        found.pop()
    return [json.loads(line) for line in found]


def text_of(found: list[Any]) -> str:
    return "".join(chunk["delta"] for chunk in found if chunk["type"] == "text-delta")


async def answered(client: Client, worker: Worker, body: dict[str, Any], *pieces: str) -> list[Any]:
    """Sends a request, answers it, and returns the chunks."""
    asking = asyncio.create_task(client.post(API, json=body))
    await worker.answer(*pieces)
    async with await asking as answer:
        assert "v1" == answer.headers["x-vercel-ai-ui-message-stream"]
        return chunks(await answer.text())


async def test_an_answer_is_one_step_of_a_message_and_names_its_response(
    client: Client, worker: Worker
) -> None:
    found = await answered(client, worker, BODY, "So", " it is.")
    types = [chunk["type"] for chunk in found]
    assert ["start", "start-step", "text-start", "text-delta"] == types[:4]
    assert ["text-end", "finish-step", "finish"] == types[-3:]
    assert "So it is." == text_of(found)
    assert found[0]["messageId"] == found[0]["messageMetadata"]["responseId"]
    assert "stop" == found[-1]["finishReason"]
    assert 64 == len(found[-1]["messageMetadata"]["sha256"])


async def test_a_chat_without_an_answer_has_nothing_to_resume(client: Client) -> None:
    async with client.get(f"{API}/chat-1/stream") as answer:
        assert 204 == answer.status


async def test_a_resumed_stream_continues_after_each_event(client: Client, worker: Worker) -> None:
    whole = await answered(client, worker, BODY, "So", " it", " is.")
    async with client.get(f"{API}/chat-1/stream") as answer:
        text = await answer.text()
        response_id = answer.headers["X-Response-Id"]
    assert whole == chunks(text)
    seen: list[Any] = []
    for event in text.split("\n\n"):
        seen += chunks(event)
        if "id: " not in event:
            continue
        after = event.partition("id: ")[2].partition("\n")[0]
        for id_ in ("chat-1", response_id):
            async with client.get(f"{API}/{id_}/stream?starting_after={after}") as answer:
                assert whole == seen + chunks(await answer.text())
    assert whole == seen


async def test_the_answer_to_a_tools_result_extends_the_message_with_the_call(
    client: Client, worker: Worker
) -> None:
    found = await answered(client, worker, {**BODY, "messages": [HELLO, CALLED]}, "Grey.")
    assert "m2" == found[0]["messageId"]
    assert ["start", "start-step", "text-start"] == [chunk["type"] for chunk in found[:3]]
    # A client that reloads its page has lost the parts of the first step.
    async with client.get(f"{API}/chat-1/stream") as answer:
        again = chunks(await answer.text())
    step = [chunk["type"] for chunk in again[:6]]
    called = ["start-step", "tool-input-available", "tool-output-available", "finish-step"]
    assert ["start", *called, "start-step"] == step
    assert TOOL["output"] == again[3]["output"]
    assert found[1:] == again[5:]


async def test_a_cursor_after_the_end_is_an_error(client: Client, worker: Worker) -> None:
    await answered(client, worker, BODY, "So")
    async with client.get(f"{API}/chat-1/stream?starting_after=99") as answer:
        [found] = chunks(await answer.text())
    assert "error" == found["type"]
    assert "'starting_after' is 99" in found["errorText"]


@pytest.mark.parametrize(
    "hostile", ['{"a": "\\ud800"}', "[" * 2_000 + "]" * 2_000, "[" * 99, "NaN"]
)
async def test_json_that_cannot_be_sent_on_is_shown_as_text(
    client: Client, worker: Worker, hostile: str
) -> None:
    # The model writes the arguments, and the client the result of the call before.
    result = {**CALLED, "parts": [{**TOOL, "output": hostile}]}
    asking = asyncio.create_task(client.post(API, json={**BODY, "messages": [HELLO, result]}))
    taken = await worker.take()
    id_ = item_id("fc", taken.job.id, 1, 0)
    call = items.function_call(id_, "completed", "call_2", "weather", hostile)
    events = [items.added(0, {**call, "arguments": ""}), *items.done(0, call)]
    await taken.writer.append([encode_event(event) for event in events])
    await taken.complete()
    async with await asking as answer:
        found = chunks(await answer.text())
    assert ["tool-input-error", "finish-step", "finish"] == [one["type"] for one in found[-3:]]
    assert hostile == found[-3]["input"]
    async with client.get(f"{API}/chat-1/stream") as answer:
        again = chunks(await answer.text())
    assert [hostile] == [one["output"] for one in again if one["type"] == "tool-output-available"]


@pytest.mark.parametrize("annotation", [{"type": "url_citation"}, {}, "text", None, []])
async def test_an_annotation_of_another_shape_is_left_out(
    client: Client, worker: Worker, annotation: Any
) -> None:
    asking = asyncio.create_task(client.post(API, json=BODY))
    taken = await worker.take()
    await taken.say("So")
    place = items.Place("output_text", item_id("msg", taken.job.id, 1, 0), 0, 0)
    await taken.writer.append([encode_event(items.annotated(place, 0, annotation))])
    await taken.complete()
    async with await asking as answer:
        found = chunks(await answer.text())
    assert "finish" == found[-1]["type"]


async def test_a_restart_discards_the_parts_of_the_step(client: Client, worker: Worker) -> None:
    asking = asyncio.create_task(client.post(API, json=BODY))
    taken = await worker.take()
    await taken.say("Wrong")
    async with await asking as answer:
        await taken.writer.append([encode_event(restarted(taken.job, 2, "worker_lost"))])
        await taken.complete()
        found = chunks(await answer.text())
    types = [chunk["type"] for chunk in found]
    assert ["text-delta", "text-end", "reset-step"] == types[3:6]


async def test_a_failed_answer_ends_with_an_error(client: Client, worker: Worker) -> None:
    asking = asyncio.create_task(client.post(API, json=BODY))
    taken = await worker.take()
    await taken.say("So")
    await taken.fail("worker_error")
    async with await asking as answer:
        found = chunks(await answer.text())
    assert "error" == found[-1]["type"]
    assert found[-1]["errorText"]


async def test_a_stopping_server_cuts_the_stream_so_that_the_client_resumes(
    client: Client, worker: Worker
) -> None:
    async with client.post(API, json=BODY) as answer:
        taken = await worker.take()
        await taken.say("So")
        while b"So" not in await answer.content.readline():
            pass
        await client.app[SERVER].drain()
        told = b""
        with pytest.raises(ClientPayloadError):
            while piece := await answer.content.readany():
                told += piece
    assert [] == chunks(told.decode())
    await taken.complete()


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"id": "m", "role": "robot", "parts": []}]}, "messages[0].role"),
        ({"messages": [{"id": "m", "role": "user"}]}, "messages[0].parts"),
        ({"messages": [{**HELLO, "parts": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"id": "m", "role": "assistant", "parts": []}]}, "messages"),
        ({"id": None}, "id"),
        ({"id": "c" * 256}, "id"),
        ({"stream": False}, "stream"),
        ({"input": "x"}, "input"),
        ({"config": {"modelName": "m"}}, "config"),
        ({"colour": "blue"}, "colour"),
    ],
)
async def test_a_wrong_request_is_refused_by_the_name_of_its_field(
    client: Client, wrong: dict[str, Any], param: str
) -> None:
    async with client.post(API, json={**BODY, **wrong}) as answer:
        assert 400 == answer.status
        assert param == (await answer.json())["error"]["param"]


async def test_parameters_files_and_tools_reach_the_response(
    client: Client, worker: Worker
) -> None:
    image = {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AAAA"}
    tools = {"weather": {"description": "The weather.", "parameters": {"type": "object"}}}
    body = {
        **BODY,
        "messages": [{**HELLO, "parts": [*HELLO["parts"], image]}],
        "system": "Be brief.",
        "tools": tools,
        "callSettings": {},
        "temperature": 0.5,
    }
    asking = asyncio.create_task(client.post(API, json=body))
    taken = await worker.answer("So.")
    async with await asking as answer:
        await answer.read()
    params = taken.job.params
    assert "Be brief." == params["instructions"]
    assert 0.5 == params["temperature"]
    assert ["weather"] == [tool["name"] for tool in params["tools"]]
    assert ["input_text", "input_image"] == [part["type"] for part in params["input"][0]["content"]]


async def test_an_unknown_response_is_not_found(client: Client) -> None:
    async with client.get(f"{API}/resp_000{'a' * 32}/stream") as answer:
        assert 404 == answer.status
