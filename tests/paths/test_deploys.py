"""Tests that a server restart during requests of the official SDK causes no second model call."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.fake_model import FakeModel
from tests.paths.conftest import Shared, sdk
from tests.system import System, wait_until

SLOW = "mode=slow tokens=40 pace=0.05"


async def streamed(client: AsyncOpenAI, prompt: str) -> tuple[list[Any], openai.APIError]:
    """Returns a stream's events up to the exception that the SDK raises, and the exception."""
    events: list[Any] = []
    with pytest.raises(openai.APIError) as raised:
        async for event in await client.responses.create(input=prompt, model="m", stream=True):
            events.append(event)  # noqa: PERF401 - events before the error are kept
    return events, raised.value


async def chatted(client: AsyncOpenAI, prompt: str) -> tuple[str, openai.APIError]:
    """Returns the id of a streamed chat completion and the exception that the SDK raises."""
    id_ = ""
    with pytest.raises(openai.APIError) as raised:
        async for chunk in await client.chat.completions.create(
            messages=[{"role": "user", "content": prompt}], model="m", stream=True
        ):
            id_ = chunk.id
    return id_, raised.value


async def test_after_a_sigterm_each_kind_of_request_has_called_the_model_once(
    shared: Shared, beside: System
) -> None:
    ways = ("plain", "streamed", "background", "chat")
    prompts = {way: shared.prompt(f"way={way} {SLOW}") for way in ways}
    old = await beside.server()
    async with sdk(old) as retrying, sdk(shared.other) as elsewhere:
        client = retrying.with_options(max_retries=5)
        plain = asyncio.create_task(client.responses.create(input=prompts["plain"], model="m"))
        stream = asyncio.create_task(streamed(client, prompts["streamed"]))
        chat = asyncio.create_task(chatted(client, prompts["chat"]))
        later = await client.responses.create(
            input=prompts["background"], model="m", background=True
        )
        await wait_until(
            lambda: all(calls and calls[0].sent for calls in map(shared.calls, prompts.values()))
        )
        await asyncio.sleep(0.2)  # wait until the first deltas reach the clients
        old.signal(signal.SIGTERM)
        events, error = await stream
        assert events
        assert isinstance(error.body, dict)
        id_ = error.body["response_id"]
        assert ("server_restarting", events[0].response.id) == (error.code, id_)
        rest = await elsewhere.responses.retrieve(
            id_, stream=True, starting_after=events[-1].sequence_number
        )
        events += [event async for event in rest]
        assert list(range(len(events))) == [event.sequence_number for event in events]
        assert "response.completed" == events[-1].type
        chat_id, error = await chat
        assert isinstance(error.body, dict)
        assert "server_restarting" == error.code
        assert chat_id.removeprefix("chatcmpl-") in error.body["response_id"]
        assert "completed" == (await plain).status
        assert later.id == (await elsewhere.responses.retrieve(later.id)).id
    assert 0 == await old.wait()
    assert [1, 1, 1, 1] == [len(shared.calls(prompt)) for prompt in prompts.values()]


# In `make test`, test_responses.py tests this behaviour without separate processes.
@pytest.mark.heavy
async def test_a_request_cut_off_by_a_restart_returns_its_id_and_is_not_repeated(
    system: System,
) -> None:
    async with FakeModel() as model:
        old, new, _ = await asyncio.gather(
            system.server(HOLDLINE_SHUTDOWN_GRACE_SECONDS="0.1"),
            system.server(),
            system.worker(model.url),
        )
        async with sdk(old) as retrying, sdk(new) as elsewhere:
            client = retrying.with_options(max_retries=5)
            asking = asyncio.create_task(client.responses.create(input=SLOW, model="m"))
            await wait_until(lambda: model.calls)
            old.signal(signal.SIGTERM)
            with pytest.raises(openai.InternalServerError) as raised:
                await asking
            assert "server_restarting" == raised.value.code
            id_ = raised.value.response.headers["X-Response-Id"]
            rest = await elsewhere.responses.retrieve(id_, stream=True)
            assert "response.completed" == [event.type async for event in rest][-1]
        assert 1 == len(model.calls)


async def test_after_a_sigkill_a_retried_prompt_has_called_the_model_once(
    shared: Shared, beside: System
) -> None:
    """The SDK retries after a lost connection, and the retry attaches to the same response."""
    old, prompt = await beside.server(), shared.prompt(SLOW)
    async with sdk(old) as retrying:
        client = retrying.with_options(max_retries=10)
        asking = asyncio.create_task(client.responses.create(input=prompt, model="m"))
        await wait_until(lambda: shared.calls(prompt))
        await old.kill()
        await beside.server(HOLDLINE_PORT=old.url.rpartition(":")[2])
        assert "completed" == (await asking).status
    assert 1 == len(shared.calls(prompt))
