"""Tests the simulated model, as an OpenAI-compatible endpoint, with the official SDK."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest
from aiohttp import test_utils
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from command.demo.model import DemoModel, pace
from tests.system import run_module

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Why is it blue?"}]
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture
async def endpoint() -> AsyncIterator[test_utils.TestServer]:
    server = test_utils.TestServer(DemoModel(tokens_per_second=100_000).app())
    async with server:
        yield server


@pytest.fixture
async def client(endpoint: test_utils.TestServer) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=str(endpoint.make_url("/v1")),
        api_key="any",
        max_retries=0,
        http_client=openai.DefaultAioHttpClient(),
    ) as client:
        yield client


def user_message(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


async def streamed(
    client: openai.AsyncOpenAI, messages: list[ChatCompletionMessageParam], **options: Any
) -> list[ChatCompletionChunk]:
    stream = await client.chat.completions.create(
        model="any", messages=messages, stream=True, **options
    )
    return [chunk async for chunk in stream]


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


async def test_streamed_and_plain_answers_have_the_same_text(client: openai.AsyncOpenAI) -> None:
    chunks = await streamed(client, QUESTION)
    whole = await client.chat.completions.create(model="any", messages=QUESTION)

    assert whole.choices[0].message.content == text_of(chunks)
    assert "stop" == whole.choices[0].finish_reason
    assert len(chunks) > 100


async def test_a_stream_has_the_shape_of_the_standard(endpoint: test_utils.TestServer) -> None:
    body = {"model": "m", "messages": QUESTION, "stream": True}
    async with (
        aiohttp.ClientSession() as session,
        session.post(endpoint.make_url("/v1/chat/completions"), json=body) as response,
    ):
        assert "text/event-stream" == response.content_type
        text = await response.text()

    *events, done, rest = text.split("\n\n")
    assert ("data: [DONE]", "") == (done, rest)
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert {("chat.completion.chunk", "m", chunks[0]["id"])} == {
        (chunk["object"], chunk["model"], chunk["id"]) for chunk in chunks
    }
    assert {"role": "assistant", "content": ""} == chunks[0]["choices"][0]["delta"]
    assert [None] * (len(chunks) - 1) + ["stop"] == [
        chunk["choices"][0]["finish_reason"] for chunk in chunks
    ]


async def test_usage_is_the_last_chunk_and_only_sent_on_request(client: openai.AsyncOpenAI) -> None:
    plain = await streamed(client, QUESTION)
    counted = await streamed(client, QUESTION, stream_options={"include_usage": True})

    assert all(chunk.usage is None for chunk in [*plain, *counted[:-1]])
    usage = counted[-1].usage
    assert usage is not None
    assert [] == counted[-1].choices
    # The first chunk, the finish reason and the usage contain no token.
    assert len(counted) - 3 == usage.completion_tokens
    assert usage.prompt_tokens + usage.completion_tokens == usage.total_tokens


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
async def test_a_token_limit_ends_the_answer_with_finish_reason_length(
    client: openai.AsyncOpenAI, limit: str
) -> None:
    chunks = await streamed(client, QUESTION, **{limit: 5})

    assert "length" == chunks[-1].choices[0].finish_reason
    assert 5 == sum(bool(chunk.choices[0].delta.content) for chunk in chunks)


async def test_an_answer_refers_to_earlier_turns(client: openai.AsyncOpenAI) -> None:
    chunks = await streamed(
        client,
        [*QUESTION, {"role": "assistant", "content": "Because."}, *user_message("And at night?")],
    )

    assert "- “Why is it blue?”" in text_of(chunks)


async def test_fail_returns_500(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.InternalServerError, match="because the prompt requested it"):
        await streamed(client, user_message("fail"))


async def test_rate_limit_returns_429_with_retry_after(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        await streamed(client, user_message("rate limit"))

    assert "1" == caught.value.response.headers["Retry-After"]


async def test_be_cut_aborts_the_stream(client: openai.AsyncOpenAI) -> None:
    with pytest.raises((openai.APIError, aiohttp.ClientError)):
        await streamed(client, user_message("be cut"))


async def test_the_text_before_an_aborted_stream_arrives(
    endpoint: test_utils.TestServer, capsys: pytest.CaptureFixture[str]
) -> None:
    body = {"messages": user_message("be cut"), "stream": True}
    seen = b""
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientPayloadError):
            async with session.post(
                endpoint.make_url("/v1/chat/completions"), json=body
            ) as response:
                async for piece in response.content.iter_any():
                    seen += piece

    chunks = seen.count(b"\n\n")
    assert chunks > 100
    # The first chunk contains only the role.
    assert f"simulated {chunks - 1} tokens in " in capsys.readouterr().out
    assert b"[DONE]" not in seen


@pytest.mark.parametrize("words", ["fail once", "rate limit once", "be cut once"])
async def test_once_makes_the_second_attempt_succeed(
    client: openai.AsyncOpenAI, words: str
) -> None:
    with pytest.raises((openai.APIError, aiohttp.ClientError)):
        await streamed(client, user_message(words))

    assert "stop" == (await streamed(client, user_message(words)))[-1].choices[0].finish_reason


async def test_a_tool_is_called_with_valid_arguments(client: openai.AsyncOpenAI) -> None:
    chunks = await streamed(client, user_message("call a tool"), tools=[WEATHER])
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]

    assert "tool_calls" == chunks[-1].choices[0].finish_reason
    assert calls[0].function is not None
    assert "weather" == calls[0].function.name
    written = "".join(call.function.arguments or "" for call in calls if call.function)
    assert {"city": "demo"} == json.loads(written)


@pytest.mark.parametrize("body", ["{", "[]", '{"messages": "hello"}', '{"messages": [1]}'])
async def test_an_invalid_body_returns_400(endpoint: test_utils.TestServer, body: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(endpoint.make_url("/v1/chat/completions"), data=body) as response,
    ):
        assert 400 == response.status
        assert "invalid_request_error" == (await response.json())["error"]["type"]


async def test_models_and_keywords_are_listed(
    client: openai.AsyncOpenAI, endpoint: test_utils.TestServer
) -> None:
    assert ["holdline-demo"] == [model.id async for model in client.models.list()]

    async with (
        aiohttp.ClientSession() as session,
        session.get(endpoint.make_url("/")) as response,
    ):
        about = await response.text()
    help_text = run_module("command", "demo-model", "--help").stdout
    for words in ("simulation", "slowly", "fail", "be cut", "call a tool", "rate limit", "once"):
        assert words in about
        assert words in help_text


def test_the_token_rate_must_be_a_positive_number() -> None:
    assert 40.0 == pace(None)
    assert 2.5 == pace("2.5")
    for wrong in ("fast", "0", "-1", "inf", "nan"):
        with pytest.raises(ValueError):
            pace(wrong)
