"""Tests the official SDK over WebSocket, and Holdline's own messages, such as `holdline:resume`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.lib.responses_websocket import AsyncResponsesWebSocketSession

from tests.paths.conftest import LIMITS, Shared
from tests.paths.sockets import TERMINAL, socket, until

SLOW = "mode=slow tokens=40"


def sequence_numbers(events: list[dict[str, Any]]) -> list[int]:
    return [event["sequence_number"] for event in events if "sequence_number" in event]


async def test_the_socket_of_the_sdk_streams_an_answer(shared: Shared, client: AsyncOpenAI) -> None:
    async with client.responses.connect() as connection:
        await connection.response.create(input=shared.prompt(), model="m")
        kinds: list[str] = []
        async for event in connection:
            kinds.append(event.type)
            if event.type in TERMINAL:
                break
    assert "response.completed" == kinds[-1]
    assert "response.created" == next(kind for kind in kinds if not kind.startswith("holdline:"))


async def test_the_lanes_of_the_sdk_run_in_parallel_and_each_in_order(
    shared: Shared, client: AsyncOpenAI
) -> None:
    slow = [shared.prompt("mode=slow tokens=80 pace=0.05"), shared.prompt(SLOW)]
    quick = shared.prompt()
    async with (
        client.responses.connect() as connection,
        AsyncResponsesWebSocketSession(connection, limits=LIMITS) as session,
    ):
        first, second = session.lane("first"), session.lane("second")
        await first.send({"type": "response.create", "input": slow[0], "model": "m"})
        await second.send({"type": "response.create", "input": quick, "model": "m"})
        done = await second.get_final_response()
        # The first answer is still running.
        assert shared.calls(slow[0])[0].ended is None
        before = await first.get_final_response()
        await first.send(
            {
                "type": "response.create",
                "input": slow[1],
                "model": "m",
                "previous_response_id": before.id,
            }
        )
        after = await first.get_final_response()
    assert ["completed"] * 3 == [done.status, before.status, after.status]
    assert 3 == len(shared.calls(slow[1])[0].body["messages"])


async def test_a_lane_runs_its_requests_in_order(shared: Shared) -> None:
    prompts = [shared.prompt("tokens=3") for _ in range(5)]
    async with socket(shared.server) as ws:
        for prompt in prompts:
            await ws.send_json({"type": "response.create", "input": prompt, "model": "m"})
        wait_for_end = 0
        created: list[str] = []
        running: set[str] = set()
        while wait_for_end < 5:
            event = await ws.receive_json(timeout=8)
            if event["type"] == "response.created":
                created.append(event["response"]["id"])
                running.add(event["response"]["id"])
                # Each lane has at most one running response.
                assert 1 == len(running)
            elif event["type"] == "response.completed":
                running.remove(event["response"]["id"])
                wait_for_end += 1
    order = [shared.calls(prompt)[0].number for prompt in prompts]
    assert sorted(order) == order


async def test_a_dropped_socket_resumes_on_another_server(shared: Shared) -> None:
    prompt = shared.prompt(SLOW)
    create = {"type": "response.create", "input": prompt, "model": "m", "stream_id": "a"}
    async with socket(shared.server) as ws:
        await ws.send_json(create)
        had = [await ws.receive_json(timeout=8) for _ in range(12)]
    had = [event for event in had if "sequence_number" in event]
    servers = [shared.other, shared.server]
    for turn in range(6):  # drops the connection repeatedly and alternates between the servers
        async with socket(servers[turn % 2]) as ws:
            await ws.send_json(
                {
                    "type": "holdline:resume",
                    "response_id": had[0]["response"]["id"],
                    "starting_after": had[-1]["sequence_number"],
                    "stream_id": "a",
                }
            )
            stop = TERMINAL if turn == 5 else {"response.output_text.delta", *TERMINAL}
            had += [event for event in await until(ws, *stop) if "sequence_number" in event]
    assert list(range(len(had))) == sequence_numbers(had)
    assert {"a"} == {event["stream_id"] for event in had}
    said = "".join(e["delta"] for e in had if e["type"] == "response.output_text.delta")
    assert said == had[-1]["response"]["output"][0]["content"][0]["text"]
    assert 40 == len(said.split())
    assert 1 == len(shared.calls(prompt))


async def test_a_resend_with_the_same_key_attaches_to_the_same_answer(shared: Shared) -> None:
    prompt = shared.prompt(SLOW)
    create = {
        "type": "response.create",
        "input": prompt,
        "model": "m",
        "idempotency_key": prompt,
    }
    async with socket(shared.server) as ws:
        # The socket closes before any reply arrives.
        await ws.send_json(create)
    async with socket(shared.other) as one, socket(shared.server) as two:
        await one.send_json(create)
        await two.send_json(create)
        first, second = await asyncio.gather(until(one, *TERMINAL), until(two, *TERMINAL))
    events = [[e for e in each if "sequence_number" in e] for each in (first, second)]
    assert events[0] == events[1]
    assert list(range(len(events[0]))) == sequence_numbers(events[0])
    assert 1 == len(shared.calls(prompt))


async def test_a_resume_after_the_last_event_returns_holdline_ended(shared: Shared) -> None:
    async with socket(shared.server) as ws:
        await ws.send_json({"type": "response.create", "input": shared.prompt(), "model": "m"})
        events = await until(ws, *TERMINAL)
    last = events[-1]
    about = {
        "response_id": last["response"]["id"],
        "stream_id": "a",
    }
    async with socket(shared.other) as ws:
        await ws.send_json(
            {
                "type": "holdline:resume",
                "starting_after": last["sequence_number"],
                **about,
            }
        )
        assert {
            "type": "holdline:ended",
            "sequence_number": last["sequence_number"],
            **about,
        } == await ws.receive_json(timeout=5)


async def test_a_cancel_is_confirmed_by_the_terminal_event(shared: Shared) -> None:
    prompt = shared.prompt("mode=silent")
    async with socket(shared.server) as ws:
        await ws.send_json({"type": "response.create", "input": prompt, "model": "m"})
        id_ = (await until(ws, "response.in_progress"))[-1]["response"]["id"]
        await ws.send_json({"type": "response.cancel", "response_id": id_})
        end = (await until(ws, *TERMINAL))[-1]
    assert ("response.incomplete", "cancelled") == (end["type"], end["response"]["status"])


async def test_a_pong_contains_the_last_sequence_numbers(shared: Shared) -> None:
    async with socket(shared.server) as ws:
        await ws.send_json(
            {"type": "response.create", "input": shared.prompt("mode=hang tokens=4"), "model": "m"}
        )
        events = await until(ws, "response.output_text.delta")
        await ws.send_json({"type": "holdline:ping", "id": 7})
        pong = (await until(ws, "holdline:pong"))[-1]
        assert 7 == pong["id"]
        id_ = events[0]["response"]["id"]
        assert pong["responses"][id_] >= events[-1]["sequence_number"]
        await ws.send_json({"type": "response.cancel", "response_id": id_})
        await until(ws, *TERMINAL)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "invalid_json"),
        ("[]", "invalid_json"),
        ("{}", "missing_required_parameter"),
        ('{"type":"response.start"}', "unknown_type"),
        ('{"type":"response.create","input":5}', "invalid_value"),
        ('{"type":"response.create","nonsense":1}', "unknown_parameter"),
        ('{"type":"response.create","input":"a","background":true}', "unsupported_parameter"),
        ('{"type":"response.create","stream_id":"a b"}', "invalid_stream_id"),
        ('{"type":"holdline:resume","response_id":"resp_x","stream_id":"q"}', "response_not_found"),
        ('{"type":"response.cancel","response_id":"resp_x"}', "response_not_found"),
        ('{"type":"holdline:resume","response_id":"r","starting_after":-2}', "invalid_value"),
        ('{"type":"holdline:resume","response_id":"r","starting_after":"1"}', "invalid_value"),
        (
            '{"type":"response.create","input":"a","previous_response_id":"x"}',
            "previous_response_not_found",
        ),
    ],
)
async def test_an_error_leaves_the_socket_open(shared: Shared, message: str, code: str) -> None:
    async with socket(shared.server) as ws:
        await ws.send_str(message)
        error = await ws.receive_json(timeout=5)
        assert ("error", code) == (error["type"], error["error"]["code"])
        lane = "q" if '"stream_id":"q"' in message else None
        assert lane == error.get("stream_id")
        await ws.send_json({"type": "holdline:ping"})
        assert "holdline:pong" == (await ws.receive_json(timeout=5))["type"]


async def test_the_sdk_can_warm_up_and_continue_without_storage(
    shared: Shared, client: AsyncOpenAI
) -> None:
    first, second = shared.prompt("say=OK"), shared.prompt("say=papaya")
    async with (
        client.responses.connect() as connection,
        AsyncResponsesWebSocketSession(connection, limits=LIMITS) as session,
    ):
        lane = session.lane("main")
        asked: Any = {"type": "response.create", "model": "m", "store": False}
        await lane.send(asked | {"input": "You are warm.", "generate": False})
        warm = await lane.get_final_response()
        await lane.send(asked | {"input": first, "previous_response_id": warm.id})
        before = await lane.get_final_response()
        await lane.send(asked | {"input": second, "previous_response_id": before.id})
        after = await lane.get_final_response()
    assert ("", "OK", "papaya") == (warm.output_text, before.output_text, after.output_text)
    said = [message["content"] for message in shared.calls(second)[0].body["messages"]]
    assert ["You are warm.", first, "OK", second] == said
    assert [] == shared.calls("You are warm.")
