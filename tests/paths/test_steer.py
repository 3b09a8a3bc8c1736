"""Tests `response.steer`: with the official SDK, over several sockets, and after deaths."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI
from openai.lib.responses_websocket import AsyncResponsesWebSocketSession
from openai.types.responses.response_steer_failed_event import ResponseSteerFailedEvent

from tests.paths.conftest import LIMITS, Shared
from tests.paths.sockets import TERMINAL, socket, until

SLOW = "mode=slow tokens=400 pace=0.05"


def steer(response_id: str, text: Any, key: str | None = None) -> dict[str, Any]:
    message = {"type": "response.steer", "previous_response_id": response_id, "input": text}
    return message if key is None else {**message, "holdline": {"idempotency_key": key}}


async def running(
    ws: aiohttp.ClientWebSocketResponse, prompt: str, **params: Any
) -> tuple[str, list[dict[str, Any]]]:
    """Starts a response, and returns its id and its events up to the first text."""
    await ws.send_json({"type": "response.create", "model": "m", "input": prompt, **params})
    events = await until(ws, "response.output_text.delta", *TERMINAL)
    created = next(event for event in events if event["type"] == "response.created")
    return created["response"]["id"], events


async def test_the_sdk_steers_a_running_response(shared: Shared, client: AsyncOpenAI) -> None:
    prompt, steered = shared.prompt(SLOW), shared.prompt()
    waits = True
    async with client.responses.connect() as connection:
        await connection.response.create(input=prompt, model="m", instructions="Be brief.")
        kinds: list[str] = []
        responses: list[Any] = []
        async for event in connection:
            kinds.append(event.type)
            if event.type == "response.created":
                responses.append(event.response)
            if event.type == "response.output_text.delta" and len(kinds) > 5 and waits:
                await connection.response.steer(input=steered, previous_response_id=responses[0].id)
                waits = False
            if event.type in ("response.incomplete", "response.completed"):
                responses.append(event.response)
            if event.type == "response.completed":
                break
    first, ended, second, last = responses
    assert ["incomplete", "steered"] == [ended.status, ended.incomplete_details.reason]
    assert first.id == ended.id == second.previous_response_id
    assert second.id == last.id
    assert "Be brief." == last.instructions
    assert kinds.index("response.steer.accepted") < kinds.index("response.incomplete")
    # The successor's model call has the interrupted text and the steer.
    [call] = shared.calls(steered)
    said = ended.output[0].content[0].text
    assert [prompt, said, steered] == [
        message["content"] for message in call.body["messages"] if message["role"] != "system"
    ]
    assert shared.calls(prompt)[0].ended is not None


async def test_a_lane_of_the_sdk_follows_a_steered_response(
    shared: Shared, client: AsyncOpenAI
) -> None:
    prompt, steered = shared.prompt(SLOW), shared.prompt("tokens=3")
    async with (
        client.responses.connect() as connection,
        AsyncResponsesWebSocketSession(connection, limits=LIMITS) as session,
    ):
        lane = session.lane("steered")
        await lane.send({"type": "response.create", "input": prompt, "model": "m"})
        event: Any = await lane.recv()
        id_ = event.response.id
        while event.type != "response.output_text.delta":
            event = await lane.recv()
        await lane.send({"type": "response.steer", "previous_response_id": id_, "input": steered})
        first = await lane.get_final_response()
        while event.type != "response.created":
            event = await lane.recv()
        second = await lane.get_final_response()
    assert ("incomplete", "completed") == (first.status, second.status)
    assert first.incomplete_details is not None
    assert "steered" == first.incomplete_details.reason
    assert first.id == second.previous_response_id
    assert 3 == len(second.output_text.split())
    assert [1, 1] == [len(shared.calls(text)) for text in (prompt, steered)]


async def test_a_resent_steer_is_stored_once_and_tells_the_successor(shared: Shared) -> None:
    prompt, other = shared.prompt(SLOW), shared.prompt()
    async with socket(shared.server) as ws, socket(shared.other) as second:
        id_, _ = await running(ws, prompt, stream_id="a")
        await second.send_json(steer(id_, other, "k"))
        [accepted] = await until(second, "response.steer.accepted")
        events = await until(ws, "response.completed")
        await second.send_json(steer(id_, other, "k"))
        [again] = await until(second, "response.steer.accepted")
        await second.send_json(steer(id_, "something else", "k"))
        [reused] = await until(second, "response.steer.failed")
        # A resume of the steered response leads to its successor on the same lane.
        await second.send_json({"type": "holdline:resume", "response_id": id_, "stream_id": "b"})
        resumed = await until(second, "response.completed")
        last = next(event for event in resumed if event["type"] == "response.incomplete")
        await second.send_json(
            {
                "type": "holdline:resume",
                "response_id": id_,
                "starting_after": last["sequence_number"],
                "stream_id": "c",
            }
        )
        led = await until(second, "response.completed")
    created = [event["response"] for event in events if event["type"] == "response.created"]
    assert [id_] == [response["previous_response_id"] for response in created]
    assert {"a"} == {event["stream_id"] for event in events}
    assert accepted["steer"] == again["steer"]
    assert {"successor_id": created[0]["id"]} == again["holdline"]
    assert "idempotency_key_reused" == reused["error"]["code"]
    assert 1 == len(shared.calls(other))
    assert {"b"} == {event["stream_id"] for event in resumed if "stream_id" in event}
    assert created[0]["id"] == resumed[-1]["response"]["id"] == led[-1]["response"]["id"]
    assert created[0]["id"] == last["response"]["holdline"]["successor_id"]


async def test_a_lane_runs_its_next_request_after_the_successor(shared: Shared) -> None:
    prompt, other, third = shared.prompt(SLOW), shared.prompt(), shared.prompt()
    async with socket(shared.server) as ws:
        id_, _ = await running(ws, prompt, stream_id="a")
        await ws.send_json(
            {"type": "response.create", "model": "m", "input": third, "stream_id": "a"}
        )
        await ws.send_json(steer(id_, other))
        events = [*await until(ws, "response.completed"), *await until(ws, "response.completed")]
    order = [event["response"]["id"] for event in events if event["type"] == "response.created"]
    assert 2 == len(order)
    assert shared.calls(other)[0].number < shared.calls(third)[0].number


async def test_steers_wait_for_the_results_of_calls(shared: Shared, client: AsyncOpenAI) -> None:
    prompt = shared.prompt(f"mode=call args={'9' * 3000}")
    other = shared.prompt()
    tool = {"type": "function", "name": "f", "parameters": {}, "strict": False}
    async with socket(shared.server) as ws:
        await ws.send_json(
            {"type": "response.create", "model": "m", "input": prompt, "tools": [tool]}
        )
        events = await until(ws, "response.function_call_arguments.delta")
        id_ = next(e for e in events if e["type"] == "response.created")["response"]["id"]
        for text in ("first", other):
            await ws.send_json(steer(id_, text))
        events = await until(ws, "response.completed", "response.failed", "response.incomplete")
        assert 2 == [event["type"] for event in events].count("response.steer.accepted"), events
        last = events[-1]
        pending = [*await until(ws, "response.steer.pending")]
        pending += await until(ws, "response.steer.pending")
        [stub] = pending[0]["required_input"]
        create = {
            "type": "response.create",
            "model": "m",
            "tools": [tool],
            "previous_response_id": id_,
            "input": [{**stub, "output": "done"}],
            "idempotency_key": other,
        }
        wrong = {**create, "input": [{**stub, "call_id": "x", "output": "done"}]}
        await ws.send_json({**wrong, "idempotency_key": f"{other} wrong"})
        [*_, refused] = await until(ws, "error")
        await ws.send_json(create)
        await until(ws, "response.completed")
        await ws.send_json(create)
        [*_, repeated] = await until(ws, "response.completed")
        await ws.send_json(steer(id_, "too late"))
        [late] = await until(ws, "response.steer.failed")
    assert 2 == last["response"]["holdline"]["pending_steers"]
    assert {"function_call_output", "f"} == {stub["type"], stub["name"]}
    assert last["sequence_number"] == pending[0]["sequence_number"]
    assert "input[0].call_id" == refused["error"]["param"]
    calls = shared.calls(other)
    assert 1 == len(calls)
    assert ["tool", "user", "user"] == [m["role"] for m in calls[0].body["messages"]][-3:]
    assert "response_already_completed" == late["error"]["code"]
    assert repeated["response"]["id"] in late["error"]["message"]


async def test_a_socket_learns_that_a_steered_response_was_deleted(
    shared: Shared, client: AsyncOpenAI
) -> None:
    prompt = shared.prompt(f"mode=call args={'9' * 3000}")
    tool = {"type": "function", "name": "f", "parameters": {}, "strict": False}
    async with socket(shared.server) as ws, socket(shared.other) as second:
        await ws.send_json(
            {"type": "response.create", "model": "m", "input": prompt, "tools": [tool]}
        )
        events = await until(ws, "response.function_call_arguments.delta")
        id_ = next(e for e in events if e["type"] == "response.created")["response"]["id"]
        await second.send_json(steer(id_, "x", "k"))
        await until(second, "response.steer.accepted")
        await client.responses.delete(id_)
        for either in (ws, second):
            [*_, gone] = await until(either, "error")
            assert ("response_gone", id_) == (gone["error"]["code"], gone["response_id"])
        await second.send_json(steer(id_, "x", "k"))
        [unknown] = await until(second, "response.steer.failed")
    assert "response_not_found" == unknown["error"]["code"]


async def test_a_cancelled_response_gives_its_steer_back(shared: Shared) -> None:
    prompt = shared.prompt("mode=slow tokens=400 pace=0.05")
    async with socket(shared.server) as ws:
        bad: dict[str, Any]
        for bad in ({"input": []}, {"input": [{"role": "system", "content": "x"}]}, {"input": "x"}):
            await ws.send_json({**steer("resp_x", ""), **bad})
            [refused] = await until(ws, "response.steer.failed")
            assert bad["input"] == refused["steer"]["input"]
            unknown = bad["input"] == "x"
            code = "response_not_found" if unknown else "invalid_input"
            assert code == refused["error"]["code"]
        id_, _ = await running(ws, prompt)
        await ws.send_json({"type": "response.cancel", "response_id": id_})
        await ws.send_json(steer(id_, "x"))
        [failed] = [
            event
            for event in await until(ws, "response.steer.failed")
            if event["type"] == "response.steer.failed"
        ]
    assert "response_not_active" == failed["error"]["code"]
    assert "x" == failed["steer"]["input"]


async def test_an_unstored_response_is_steered_too(shared: Shared) -> None:
    prompt, other, third = shared.prompt(SLOW), shared.prompt(), shared.prompt()
    async with socket(shared.server) as ws:
        id_, _ = await running(ws, prompt, store=False)
        await ws.send_json(steer(id_, other))
        events = await until(ws, "response.completed")
        successor = events[-1]["response"]
        await ws.send_json(
            {
                "type": "response.create",
                "model": "m",
                "input": third,
                "store": False,
                "previous_response_id": successor["id"],
            }
        )
        await until(ws, "response.completed")
    assert successor["store"] is False
    said = [m["content"] for m in shared.calls(third)[0].body["messages"]]
    assert [prompt, other, third] == said[::2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"previous_response_id": 5},
        {"previous_response_id": "é" * 200},
        {"previous_response_id": None},
        {"input": None},
        {"input": ""},
        {"input": 7},
        {"input": {"role": "user", "content": "x"}},
        {"input": [5]},
        {"input": [{"role": "user"}]},
        {"input": [{"role": "user", "content": []}]},
        {"input": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]},
        {"input": [{"role": "user", "content": "x"}] * 65},
        {"holdline": {"key": "x"}},
        {"holdline": {"idempotency_key": ""}},
        {"stream_id": "a"},
        {"model": "m"},
    ],
)
async def test_an_invalid_steer_is_given_back_as_the_sdk_expects(
    shared: Shared, wrong: dict[str, Any]
) -> None:
    async with socket(shared.server) as ws:
        await ws.send_json({**steer("resp_x", "x"), **wrong})
        [failed] = await until(ws, "response.steer.failed", "error")
    # The SDK reads the event without checking the input, which is the client's own.
    event = ResponseSteerFailedEvent.construct(**failed)
    assert "invalid_input" == event.error.code
    assert event.error.message
    assert event.steer.id is None
    sent = {**steer("resp_x", "x"), **wrong}["input"]
    assert (sent if isinstance(sent, str | list) else []) == failed["steer"]["input"]
