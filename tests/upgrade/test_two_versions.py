"""Tests that the released version and the checkout work together on one Redis.

One server and one worker of each version run on one Redis, with encryption. Each worker serves a
model of its own, so a test chooses the versions of both. What a client begins on the server of one
version, it continues on that of the other.
"""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from command.up.redis import embedded_redis_sync
from jobs.names import Partition
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from server.api.frames import item_id_of
from tests.error_codes import own_code
from tests.fake_model import FakeModel
from tests.fake_wire import Call
from tests.keys_without_ttl import keys_without_ttl
from tests.paths.conftest import sdk
from tests.paths.sockets import socket, until
from tests.system import Server, System, in_module_loop, wait_until
from tests.upgrade.releases import unpack
from tests.webhook_receiver import Receiver, receiving

RELEASED, CHECKOUT = "released", "checkout"
pytestmark = [
    in_module_loop,
    pytest.mark.timeout(180),
    # The version of the server to which a request goes first, and that of the worker.
    pytest.mark.parametrize(
        "way",
        [
            (RELEASED, CHECKOUT),
            (CHECKOUT, RELEASED),
            pytest.param((RELEASED, RELEASED), marks=pytest.mark.heavy),
            pytest.param((CHECKOUT, CHECKOUT), marks=pytest.mark.heavy),
        ],
        ids=lambda way: f"{way[0]} server, {way[1]} worker",
    ),
]
TABLE = '[models.{name}]\nbase_url = "{url}"\n'
TOOL: Any = {"type": "function", "name": "find", "parameters": {"type": "object"}, "strict": False}


@dataclass
class Together:
    """The processes of both versions."""

    systems: dict[str, System]
    servers: dict[str, Server]
    model: FakeModel
    receiver: Receiver
    pipe: Pipe

    def calls(self, prompt: str) -> list[Call]:
        return [call for call in self.model.calls if call.prompt == prompt]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def together(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Together]:
    folder = tmp_path_factory.mktemp("versions")
    release = unpack(folder / "release")
    keys = folder / "keys"
    keys.write_text(b64encode(os.urandom(32)).decode())
    async with AsyncExitStack() as stack:
        url = stack.enter_context(embedded_redis_sync())
        model = await stack.enter_async_context(FakeModel())
        receiver = await stack.enter_async_context(receiving())
        systems = {
            RELEASED: System(
                url, folder, program=(release.python, "-m", "command"), cwd=release.folder
            ),
            CHECKOUT: System(url, tmp_path_factory.mktemp("checkout")),
        }
        tables = {name: TABLE.format(name=name, url=model.url) for name in systems}
        (folder / "all.toml").write_text("".join(tables.values()))
        starting = []
        for name, system in systems.items():
            await stack.enter_async_context(system)
            system.environ |= receiver.environ | {"HOLDLINE_ENCRYPTION_KEYS": str(keys)}
            system.environ |= {"HOLDLINE_MODELS": str(folder / "all.toml"), "HOLDLINE_MODEL": ""}
            own = folder / f"{name}.toml"
            own.write_text(tables[name])
            starting += [system.server(), system.worker("", HOLDLINE_MODELS=str(own))]
        started: list[Any] = await asyncio.gather(*starting)
        pipe = await stack.enter_async_context(Pipe(Redis(url)))
        servers = {RELEASED: started[0], CHECKOUT: started[2]}
        yield Together(systems, servers, model, receiver, pipe)
        assert [] == await keys_without_ttl(pipe)


@dataclass
class Way:
    """The servers and the model of one test. `elsewhere` is the server of the other version."""

    together: Together
    here: Server
    elsewhere: Server
    ask: AsyncOpenAI
    other: AsyncOpenAI
    model: str
    name: str

    def prompt(self, script: str) -> str:
        """Returns a prompt that no other test uses."""
        return f"way={self.name} {script}"

    def sent(self, prompt: str) -> str:
        """Returns the answer to a prompt, for which the model was called exactly once."""
        [call] = self.together.calls(prompt)
        return call.sent


@pytest_asyncio.fixture(loop_scope="module")
async def on(
    together: Together, way: tuple[str, str], request: pytest.FixtureRequest
) -> AsyncIterator[Way]:
    server, worker = way
    elsewhere = CHECKOUT if server == RELEASED else RELEASED
    here, there = together.servers[server], together.servers[elsewhere]
    name = f"{server}-{worker}-{request.function.__name__}"
    async with sdk(here) as ask, sdk(there) as other:
        yield Way(together, here, there, ask, other, worker, name)


async def test_a_stream_that_resumes_on_the_other_version_is_whole(on: Way) -> None:
    prompt = on.prompt("mode=slow tokens=30 pace=0.02")
    events: list[Any] = []
    async for event in await on.ask.responses.create(input=prompt, model=on.model, stream=True):
        events.append(event)
        if len(events) == 12:
            break
    for client in (on.other, on.ask, on.other):
        after = events[-1].sequence_number
        rest = await client.responses.retrieve(
            events[0].response.id, stream=True, starting_after=after
        )
        async for event in rest:
            events.append(event)
            if client is not on.other and event.sequence_number == after + 5:
                break
            if event.sequence_number == 20:
                break
    rest = await on.ask.responses.retrieve(
        events[0].response.id, stream=True, starting_after=events[-1].sequence_number
    )
    events += [event async for event in rest]
    assert [*range(len(events))] == [event.sequence_number for event in events]
    assert "response.completed" == events[-1].type
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert on.sent(prompt) == "".join(deltas) == events[-1].response.output_text


async def test_a_socket_that_resumes_on_the_other_version_is_whole(on: Way) -> None:
    prompt = on.prompt("mode=slow tokens=30 pace=0.02")
    ask = {"type": "response.create", "input": prompt, "model": on.model, "stream_id": "a"}
    async with socket(on.here) as ws:
        await ws.send_json(ask)
        events = await until(ws, "response.output_text.delta")
    last = events[-1]
    shown = {"item_id": item_id_of(last), "event_type": last["type"]}
    at = {"response_id": events[0]["response"]["id"], "starting_after": last["sequence_number"]}
    async with socket(on.elsewhere) as ws:
        await ws.send_json({"type": "holdline:resume", "stream_id": "a", **at, **shown})
        events += await until(ws, "response.completed", "error")
    numbered = [event for event in events if "sequence_number" in event]
    assert [*range(len(numbered))] == [event["sequence_number"] for event in numbered]
    assert on.sent(prompt) == "".join(event.get("delta", "") for event in numbered)


async def test_a_conversation_goes_on_with_the_other_version(on: Way) -> None:
    conversation = await on.ask.conversations.create(metadata={"way": "both"})
    prompts = [on.prompt(f"turn={turn} tokens=4") for turn in range(4)]
    for turn, prompt in enumerate(prompts):
        client, model = ((on.ask, on.model), (on.other, flipped(on.model)))[turn % 2]
        await client.responses.create(input=prompt, model=model, conversation=conversation.id)
    expected = [text for prompt in prompts for text in (prompt, on.sent(prompt))]
    for client in (on.ask, on.other):
        found = client.conversations.items.list(conversation.id, order="asc")
        assert expected == ["".join(p.text for p in item.content) async for item in found]  # type: ignore[union-attr]
    [last] = on.together.calls(prompts[-1])
    assert 7 == len(last.body["messages"])


async def test_a_response_is_continued_with_the_other_version(on: Way) -> None:
    prompts = [on.prompt(f"turn={turn} tokens=4") for turn in range(3)]
    earlier = None
    for turn, prompt in enumerate(prompts):
        client, model = ((on.ask, on.model), (on.other, flipped(on.model)))[turn % 2]
        response = await client.responses.create(
            input=prompt, model=model, previous_response_id=earlier
        )
        earlier = response.id
    [last] = on.together.calls(prompts[-1])
    assert 5 == len(last.body["messages"])


async def test_a_tool_call_is_answered_on_the_other_version(on: Way) -> None:
    prompt = on.prompt("mode=call name=find args={}")
    asked = await on.ask.responses.create(input=prompt, model=on.model, tools=[TOOL])
    [call] = asked.output
    assert "function_call" == call.type
    given: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "found it"}
    answer = await on.other.responses.create(
        input=[given],
        model=flipped(on.model),
        tools=[TOOL],
        previous_response_id=asked.id,
    )
    assert "found it" == answer.output_text.strip()


async def test_a_background_answer_is_read_and_reported_once(on: Way) -> None:
    prompt = on.prompt("tokens=5")
    response = await on.ask.responses.create(input=prompt, model=on.model, background=True)
    told = on.together.receiver.told
    await wait_until(lambda: response.id in [id_ for _, id_ in told])
    for client in (on.other, on.ask):
        found = await client.responses.retrieve(response.id)
        assert ("completed", on.sent(prompt)) == (found.status, found.output_text)
    assert [("response.completed", response.id)] == [one for one in told if one[1] == response.id]


async def test_a_cancellation_reaches_the_worker_of_the_other_version(on: Way) -> None:
    prompt = on.prompt("mode=slow tokens=500 pace=0.05")
    response = await on.ask.responses.create(input=prompt, model=on.model, background=True)
    await wait_until(lambda: on.together.calls(prompt))
    [call] = on.together.calls(prompt)
    await on.other.responses.cancel(response.id)

    async def cancelled() -> bool:
        return (await on.ask.responses.retrieve(response.id)).status == "cancelled"

    await wait_until(cancelled)
    await wait_until(lambda: call.closed_by_client is not None)


async def test_an_idempotency_key_is_known_to_the_other_version(on: Way) -> None:
    prompt = on.prompt("tokens=5")
    key = {"Idempotency-Key": on.name}
    first = await on.ask.responses.create(input=prompt, model=on.model, extra_headers=key)
    again = await on.other.responses.create(input=prompt, model=on.model, extra_headers=key)
    assert (first.id, on.sent(prompt)) == (again.id, again.output_text)
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        await on.other.responses.create(input="other", model=on.model, extra_headers=key)
    assert isinstance(refused.value.body, dict)
    assert "idempotency_key_reused" == own_code(refused.value.body)


async def test_a_dead_letter_is_submitted_again_by_the_other_version(
    on: Way, way: tuple[str, str]
) -> None:
    prompt = on.prompt("mode=400 times=1")
    failed = await on.ask.responses.create(input=prompt, model=on.model, background=True)

    async def ended() -> bool:
        return (await on.other.responses.retrieve(failed.id)).status == "failed"

    await wait_until(ended)
    key = Partition(0).dead
    await on.together.pipe.call("RPUSH", key, failed.id)
    await on.together.pipe.call("PEXPIRE", key, 60_000)
    system = on.together.systems[flipped(way[0])]
    assert failed.id in await system.run("dead", "list")
    assert "submitted again" in await system.run("dead", "again", failed.id)
    await wait_until(lambda: len(on.together.calls(prompt)) == 2)
    assert failed.id not in await system.run("dead", "list")


async def test_a_steer_is_accepted_by_the_other_version(on: Way) -> None:
    prompt = on.prompt("mode=slow tokens=200 pace=0.05")
    response = await on.ask.responses.create(input=prompt, model=on.model, background=True)
    await wait_until(lambda: [call for call in on.together.calls(prompt) if call.sent])
    steer = on.prompt("tokens=3 steer=1")
    ask = {"type": "response.steer", "previous_response_id": response.id, "input": steer}
    async with socket(on.elsewhere) as ws:
        await ws.send_json(ask)
        await until(ws, "response.steer.accepted")
    await wait_until(lambda: on.together.calls(steer))
    assert 1 == len(on.together.calls(prompt))


def flipped(version: str) -> str:
    return CHECKOUT if version == RELEASED else RELEASED
