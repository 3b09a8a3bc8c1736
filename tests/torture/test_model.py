"""Tests that the simulated model does what its scripts say, and records it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import aiohttp
import pytest

from tests.system import wait_until
from torture.model.script import Script
from torture.model.server import Model
from torture.model.text import answer

ROUTES = ("chat/completions", "responses")
each_route = pytest.mark.parametrize("route", ROUTES)


@pytest.fixture
async def model() -> AsyncIterator[Model]:
    async with Model(seed=3) as started:
        yield started


def body(route: str, script: Script, **fields: Any) -> dict[str, Any]:
    text = f"Hello {script.write()}"
    messages = [{"role": "user", "content": text}]
    return {"model": "m", ("input" if route == "responses" else "messages"): messages, **fields}


async def streamed(model: Model, route: str, script: Script) -> tuple[str, str]:
    """Returns the text of a stream, and the raw stream."""
    raw = b""
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{model.url}/{route}", json=body(route, script, stream=True)) as reply,
    ):
        assert 200 == reply.status
        try:
            async for content in reply.content.iter_any():
                raw += content
        except aiohttp.ClientError:
            raw += b"(cut)"
    text = ""
    for line in raw.decode().splitlines():
        if line.startswith("data: {") and line.endswith("}"):
            event = json.loads(line[6:])
            delta = event.get("delta") or ""
            for choice in event.get("choices") or []:
                delta = choice["delta"].get("content") or ""
            text += delta if isinstance(delta, str) else ""
    return text, raw.decode()


@each_route
async def test_a_whole_answer_is_streamed_and_recorded(model: Model, route: str) -> None:
    script = Script(id="a", pieces=5)
    text, _ = await streamed(model, route, script)
    assert answer(3, "a", 1, 5) == text
    (call,) = model.records.calls("a")
    assert ("whole", 5) == (call.outcome, call.pieces)
    assert script.write() in call.context


@each_route
@pytest.mark.parametrize(
    ("do", "last"),
    [("cut", "(cut)"), ("end", ""), ("event", "fails in the middle"), ("garbage", '[{"del')],
)
async def test_an_answer_breaks_off_as_its_script_says(
    model: Model, route: str, do: str, last: str
) -> None:
    text, raw = await streamed(model, route, Script(id="a", pieces=5, do=do, at=2))
    assert answer(3, "a", 1, 2) == text
    assert last in raw
    assert "[DONE]" not in raw
    assert "response.completed" not in raw
    assert "stopped" == model.records.calls("a")[0].outcome


@each_route
async def test_a_fault_can_be_limited_to_the_first_calls(model: Model, route: str) -> None:
    script = Script(id="a", pieces=5, do="cut", at=2, times=1)
    assert answer(3, "a", 1, 2) == (await streamed(model, route, script))[0]
    assert answer(3, "a", 2, 5) == (await streamed(model, route, script))[0]


@each_route
@pytest.mark.parametrize("status", [401, 429, 503])
async def test_a_call_is_refused_with_its_status(model: Model, route: str, status: int) -> None:
    script = Script(id="a", do="error", status=status, retry_after=2)
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{model.url}/{route}", json=body(route, script)) as reply,
    ):
        assert (status, "2") == (reply.status, reply.headers["Retry-After"])
        assert "error" in await reply.json()


@each_route
async def test_a_held_call_waits_and_its_end_by_the_caller_is_recorded(
    model: Model, route: str
) -> None:
    script = Script(id="a", pieces=5, hold=2)
    reading = asyncio.create_task(streamed(model, route, script))
    await wait_until(lambda: [c for c in model.records.calls("a") if c.pieces == 2])
    reading.cancel()
    (call,) = model.records.calls("a")
    await wait_until(lambda: call.closed_by_caller)
    again = asyncio.create_task(streamed(model, route, script))
    await wait_until(lambda: 2 == len(model.records.calls("a")))
    model.records.release("a")
    assert answer(3, "a", 2, 5) == (await again)[0]


async def test_a_plain_completion_has_the_same_text(model: Model) -> None:
    script = Script(id="a", pieces=5, do="length", at=3)
    async with aiohttp.ClientSession() as http:
        async with http.post(f"{model.url}/{ROUTES[0]}", json=body(ROUTES[0], script)) as reply:
            choice = (await reply.json())["choices"][0]
        async with http.post(f"{model.url}/{ROUTES[1]}", json=body(ROUTES[1], script)) as reply:
            response = await reply.json()
    assert "length" == choice["finish_reason"]
    assert answer(3, "a", 1, 3) == choice["message"]["content"]
    assert "incomplete" == response["status"]
    assert answer(3, "a", 2, 3) == response["output"][0]["content"][0]["text"]


@each_route
async def test_a_caller_that_closes_while_the_model_writes_causes_no_log_line(
    model: Model, route: str, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(10):
        script = Script(id=str(number), pieces=500, size=20_000)
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{model.url}/{route}", json=body(route, script, stream=True)) as reply,
        ):
            await reply.content.read(100)
            reply.close()
        (call,) = model.records.calls(str(number))
        await wait_until(partial(getattr, call, "ended"))
        assert call.closed_by_caller
    assert [] == [line for line in caplog.messages if "Error handling" in line]
