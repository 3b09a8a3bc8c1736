"""Tests chat completions with the unmodified official SDK."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

from tests.paths.conftest import Shared, sdk
from tests.system import System

SLOW = "mode=slow tokens=40"
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather at a place.",
        "parameters": {
            "type": "object",
            "properties": {"location": {"type": "string"}},
            "required": ["location"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


def ask(prompt: str) -> Any:
    return [{"role": "user", "content": prompt}]


class Place(BaseModel):
    city: str


async def test_a_chat_completion_returns_text_and_usage(
    shared: Shared, client: AsyncOpenAI
) -> None:
    prompt = shared.prompt("tokens=5")
    raw = await client.chat.completions.with_raw_response.create(
        messages=[{"role": "developer", "content": "Be brief."}, *ask(prompt)],
        model="m",
        temperature=0.5,
        max_tokens=50,
    )
    whole = raw.parse()
    assert 5 == len((whole.choices[0].message.content or "").split())
    assert "stop" == whole.choices[0].finish_reason
    assert whole.usage is not None
    assert (7, 5, 12) == (
        whole.usage.prompt_tokens,
        whole.usage.completion_tokens,
        whole.usage.total_tokens,
    )
    (call,) = shared.calls(prompt)
    assert (0.5, 50) == (call.body["temperature"], call.body["max_tokens"])
    response = await client.responses.retrieve(raw.headers["X-Response-Id"])
    assert response.output_text == whole.choices[0].message.content
    assert whole.id == response.id.replace("resp_", "chatcmpl-")


async def test_a_chat_stream_can_also_be_followed_as_a_response(
    shared: Shared, client: AsyncOpenAI, elsewhere: AsyncOpenAI
) -> None:
    raw = await client.chat.completions.with_raw_response.create(
        messages=ask(shared.prompt(SLOW)),
        model="m",
        stream=True,
        stream_options={"include_usage": True},
    )
    stream = raw.parse()
    follow: Any = await elsewhere.responses.retrieve(raw.headers["X-Response-Id"], stream=True)
    text, count, role = "", None, None
    async for chunk in stream:
        count = chunk.usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            role = role or choice.delta.role
    followed = "".join(
        [event.delta async for event in follow if event.type == "response.output_text.delta"]
    )
    assert (40, "assistant") == (len(text.split()), role)
    assert text == followed
    assert count is not None
    assert 40 == count.completion_tokens


async def test_the_stream_helper_of_the_sdk_works(shared: Shared, client: AsyncOpenAI) -> None:
    async with client.chat.completions.stream(
        messages=ask(shared.prompt("tokens=7")), model="m"
    ) as stream:
        kinds = [event.type async for event in stream]
        whole = await stream.get_final_completion()
    assert {"content.delta", "content.done"} <= set(kinds)
    assert 7 == len((whole.choices[0].message.content or "").split())


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_tool_loop_works_over_chat_completions(
    shared: Shared, client: AsyncOpenAI, streamed: bool
) -> None:
    prompt = shared.prompt('mode=call name=get_weather args={"location":"Bern"}')
    messages = ask(prompt)
    if streamed:
        async with client.chat.completions.stream(
            messages=messages, model="m", tools=[WEATHER]
        ) as stream:
            asked: Any = (await stream.get_final_completion()).choices[0]
    else:
        asked = (
            await client.chat.completions.create(messages=messages, model="m", tools=[WEATHER])
        ).choices[0]
    assert "tool_calls" == asked.finish_reason
    (call,) = asked.message.tool_calls
    assert ("get_weather", '{"location":"Bern"}') == (call.function.name, call.function.arguments)

    last = shared.prompt("say=sunny")
    messages = [
        *messages,
        asked.message.model_dump(exclude_unset=True, exclude={"parsed"}),
        {"role": "tool", "tool_call_id": call.id, "content": "Sun."},
        *ask(last),
    ]
    for message in messages:
        for made in message.get("tool_calls") or []:
            made["function"].pop("parsed_arguments", None)
    done = await client.chat.completions.create(messages=messages, model="m", tools=[WEATHER])
    assert "sunny" == done.choices[0].message.content
    shown = shared.calls(last)[0].body["messages"]
    assert ["user", "assistant", "tool", "user"] == [message["role"] for message in shown]
    assert call.id == shown[1]["tool_calls"][0]["id"] == shown[2]["tool_call_id"]


async def test_the_sdk_parses_structured_output(shared: Shared, client: AsyncOpenAI) -> None:
    prompt = shared.prompt('say={"city":"Bern"}')
    whole = await client.chat.completions.parse(
        messages=ask(prompt), model="m", response_format=Place
    )
    assert Place(city="Bern") == whole.choices[0].message.parsed
    wanted = shared.calls(prompt)[0].body["response_format"]
    assert ("json_schema", "Place") == (wanted["type"], wanted["json_schema"]["name"])


async def test_a_failed_completion_raises_and_is_not_retried(shared: Shared) -> None:
    prompt = shared.prompt("mode=400")
    async with AsyncOpenAI(base_url=f"{shared.server.url}/v1", api_key="any") as stubborn:
        with pytest.raises(openai.BadRequestError) as refused:
            await stubborn.chat.completions.create(messages=ask(prompt), model="m")
        assert "invalid_prompt" == refused.value.code
        with pytest.raises(openai.BadRequestError) as broken:
            async for _ in await stubborn.chat.completions.create(
                messages=ask(prompt), model="m", stream=True
            ):
                pass
        assert "invalid_prompt" == broken.value.code
        with pytest.raises(openai.BadRequestError) as wrong:
            await stubborn.chat.completions.create(messages=ask("x"), model="m", n=2)
        assert ("unsupported_parameter", "n") == (wrong.value.code, wrong.value.param)
    assert 2 == len(shared.calls(prompt))


async def test_chat_completions_include_reasoning_refusals_and_log_probabilities(
    shared: Shared, client: AsyncOpenAI
) -> None:
    async def said(mode: str, **more: Any) -> Any:
        whole = await client.chat.completions.create(
            messages=ask(shared.prompt(f"mode={mode} tokens=3")), model="m", **more
        )
        return whole.choices[0]

    thought = await said("think", reasoning_effort="low")
    assert "First this." == thought.message.reasoning_content
    assert "I will not." == (await said("refuse")).message.refusal
    probable = await said("probs", logprobs=True, top_logprobs=1)
    assert 3 == len(probable.logprobs.content)
    assert (await said("probs")).logprobs is None


async def test_a_repeated_idempotency_key_returns_the_same_completion(
    shared: Shared, client: AsyncOpenAI, elsewhere: AsyncOpenAI
) -> None:
    prompt = shared.prompt("tokens=5")

    async def completed(one: AsyncOpenAI) -> Any:
        headers = {"Idempotency-Key": prompt}
        return await one.chat.completions.create(
            messages=ask(prompt), model="m", extra_headers=headers
        )

    first, second = await asyncio.gather(completed(client), completed(elsewhere))
    assert first == second
    assert 1 == len(shared.calls(prompt))


@pytest.mark.heavy
async def test_a_worker_killed_in_mid_stream_ends_the_stream_and_the_answer_can_be_retrieved(
    system: System, shared: Shared
) -> None:
    server = await system.server()
    first = await system.worker(shared.model.url, HOLDLINE_LEASE_SECONDS="1")
    async with sdk(server) as client:
        raw = await client.chat.completions.with_raw_response.create(
            messages=ask(shared.prompt("mode=slow tokens=40 pace=0.05")), model="m", stream=True
        )
        seen = 0
        with pytest.raises(openai.APIError) as broken:
            async for chunk in raw.parse():
                seen += bool(chunk.choices and chunk.choices[0].delta.content)
                if seen == 1:
                    await first.kill()
                    await system.worker(shared.model.url, HOLDLINE_LEASE_SECONDS="1")
        assert "server_error" == broken.value.code
        id_ = raw.headers["X-Response-Id"]
        assert id_ in broken.value.message
        stream: Any = await client.responses.retrieve(id_, stream=True)
        last = [event async for event in stream][-1]
    assert 40 == len(last.response.output_text.split())
