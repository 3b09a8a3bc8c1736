"""Steers responses while connections and workers fail, for several tests."""

from __future__ import annotations

import json
from typing import Any

from openai import AsyncOpenAI

from tests.attacks.raw import Raw, frame
from tests.fake_model import FakeModel
from tests.paths.conftest import sdk
from tests.paths.sockets import socket, until
from tests.system import Process, Server, System, wait_until


async def cut_steer(server: Server, message: dict[str, Any], cut: int) -> None:
    """Sends the first `cut` bytes of a steer's frame, and then drops the connection."""
    async with Raw(server.url) as raw:
        status, _ = await raw.upgrade()
        assert 101 == status
        await raw.send(frame(json.dumps(message).encode())[:cut])
        raw.writer.transport.abort()


async def resent(server: Server, message: dict[str, Any]) -> list[dict[str, Any]]:
    """Sends a steer on a new socket, and returns the replies up to its acceptance or refusal."""
    async with socket(server) as ws:
        await ws.send_json(message)
        return await until(ws, "response.steer.accepted", "response.steer.failed")


async def final(ask: AsyncOpenAI, id_: str) -> Any:
    async def ended() -> Any:
        found = await ask.responses.retrieve(id_)
        return found if found.status not in ("queued", "in_progress") else None

    return await wait_until(ended, 60)


async def one_steer(
    servers: list[Server], ask: AsyncOpenAI, model: FakeModel, number: int, cut: int, kill: Any
) -> str:
    """Steers one response, checks that the reported outcome has really happened, and returns it."""
    before = len(model.calls)
    prompt = f"mode=slow tokens=60 pace=0.03 case={number}"
    response = await ask.responses.create(input=prompt, model="m", background=True)
    await wait_until(lambda: len(model.calls) > before and model.calls[-1].sent.count(" ") > 3)
    text = f"mode=slow tokens=5 steer={number}"
    steer = {
        "type": "response.steer",
        "previous_response_id": response.id,
        "input": text,
        "holdline": {"idempotency_key": f"key {number}"},
    }
    await cut_steer(servers[0], steer, cut)
    if kill is not None:
        await kill()
    [told] = await resent(servers[1], steer)
    ended = await final(ask, response.id)
    successor = (ended.model_extra or {})["holdline"].get("successor_id")
    calls = [call for call in model.calls if call.prompt == text]
    if told["type"].endswith("failed"):
        # The steer was never stored, and the response had ended before the resend.
        assert text == told["steer"]["input"]
        assert None is successor
        assert [] == calls
        return "given back"
    last = await final(ask, successor)
    assert "completed" == last.status
    assert response.id == last.previous_response_id
    items: Any = await ask.responses.input_items.list(successor)
    assert [text] == [part.text for item in items.data for part in item.content]
    [again] = await resent(servers[0], steer)
    assert told["steer"] == again["steer"]
    assert successor == again["holdline"]["successor_id"]
    attempts = (last.model_extra or {})["holdline"]["attempts"]
    calls = [call for call in model.calls if call.prompt == text]
    assert attempts == len(calls)
    return "committed"


async def many_steers(system: System, model: FakeModel, cuts: list[int]) -> list[str]:
    servers = [await system.server(), await system.server()]
    worker: list[Process] = [await system.worker(model.url), await system.worker(model.url)]

    async def kill() -> None:
        await worker.pop(0).kill()
        worker.append(await system.worker(model.url))

    outcomes = []
    async with sdk(servers[0]) as ask:
        for number, cut in enumerate(cuts):
            killing = kill if number % 2 else None
            outcomes.append(await one_steer(servers, ask, model, number, cut, killing))
    return outcomes
