"""Tests that only a client that asks for obfuscation gets padded deltas."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import msgpack  # type: ignore[import-untyped]
import pytest
from openai import AsyncOpenAI

from server.api.obfuscation import BLOCK
from tests.paths.conftest import Shared

BODY: dict[str, Any] = {"model": "m", "stream_options": {"include_obfuscation": True}}
SAY = "mode=slow pace=0.02 tokens=12"


def check(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Checks the padding of a response's events. Returns the events without it."""
    deltas = [event for event in events if event["type"].endswith(".delta")]
    assert len(deltas) > 1
    assert len({event["obfuscation"] for event in deltas}) > 1
    assert all("obfuscation" not in event for event in events if event not in deltas)
    assert list(range(len(events))) == [event["sequence_number"] for event in events]
    return [{k: v for k, v in event.items() if k != "obfuscation"} for event in events]


async def streamed(answer: aiohttp.ClientResponse) -> list[bytes]:
    """Returns the data of each server-sent event."""
    lines = (await answer.read()).split(b"\n")
    data = [line.removeprefix(b"data: ") for line in lines if line.startswith(b"data: ")]
    return data[:-1] if data[-1] == b"[DONE]" else data


def decoded(data: list[bytes]) -> list[dict[str, Any]]:
    return [json.loads(one) for one in data]


async def test_a_stream_is_padded_for_the_client_that_asks_for_it(shared: Shared) -> None:
    async with aiohttp.ClientSession(shared.server.url) as http:
        body = {**BODY, "input": shared.prompt(SAY), "stream": True}
        async with http.post("/v1/responses", json=body) as answer:
            data = await streamed(answer)
        events = decoded(data)
        plain = check(events)
        for one, event in zip(data, events, strict=True):
            assert len(one) % BLOCK == 0 or not event["type"].endswith(".delta")
        path = f"/v1/responses/{events[0]['response']['id']}?stream=true"
        async with http.get(path) as answer:
            assert plain == decoded(await streamed(answer))
        async with http.get(f"{path}&include_obfuscation=true") as answer:
            assert plain == check(decoded(await streamed(answer)))
        async with http.get(f"{path}&include_obfuscation=perhaps") as answer:
            assert 400 == answer.status


@pytest.mark.parametrize("protocol", ["", "holdline.v1", "holdline.msgpack"])
async def test_a_socket_is_padded_for_the_response_that_asks_for_it(
    shared: Shared, protocol: str
) -> None:
    packed = protocol == "holdline.msgpack"

    async def follow(ws: aiohttp.ClientWebSocketResponse, message: dict[str, Any]) -> list[Any]:
        if packed:
            await ws.send_bytes(msgpack.packb(message))
        else:
            await ws.send_json(message)
        events: list[Any] = []
        while not events or not events[-1]["type"].endswith(".completed"):
            frame = await ws.receive(timeout=8)
            event = msgpack.unpackb(frame.data) if packed else json.loads(frame.data)
            if event["type"].startswith("response."):
                assert "a" == event.pop("stream_id")
                events.append(event)
                size = len(json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode())
                assert "obfuscation" not in event or size % BLOCK == 0
        return events

    protocols = (protocol,) if protocol else ()
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(shared.server.ws_url, protocols=protocols) as ws,
    ):
        create = {"type": "response.create", "stream_id": "a", **BODY, "input": shared.prompt(SAY)}
        events = await follow(ws, create)
        plain = check(events)
        resume = {
            "type": "holdline:resume",
            "response_id": events[0]["response"]["id"],
            "stream_id": "a",
        }
        assert plain == await follow(ws, resume)
        assert plain == check(await follow(ws, {**resume, "include_obfuscation": True}))
        del create["stream_options"]
        assert not any("obfuscation" in event for event in await follow(ws, create))


async def test_a_chat_stream_is_padded_for_the_client_that_asks_for_it(
    shared: Shared, client: AsyncOpenAI
) -> None:
    async with aiohttp.ClientSession(shared.server.url) as http:
        messages = [{"role": "user", "content": shared.prompt(SAY)}]
        body = {**BODY, "messages": messages, "stream": True}
        async with http.post("/v1/chat/completions", json=body) as answer:
            data = await streamed(answer)
    padded = [one for one in data if b"obfuscation" in one]
    assert len(padded) > 1
    assert all(len(one) % BLOCK == 0 for one in padded)
    assert padded == [one for one in data if json.loads(one)["choices"][0]["delta"].get("content")]
    stream = await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": shared.prompt()}], stream=True
    )
    assert not [chunk async for chunk in stream if "obfuscation" in (chunk.model_extra or {})]


async def test_the_sdk_reads_a_padded_stream(shared: Shared, client: AsyncOpenAI) -> None:
    prompt = shared.prompt()
    async with client.responses.stream(input=prompt, **BODY) as stream:
        async for _ in stream:
            pass
        answer = await stream.get_final_response()
    assert shared.answer_to(prompt) == answer.output_text.strip()
