"""A call is what the SDK would have sent."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest

from tests.fake_model import FakeModel
from tests.worker.harness import configured
from worker.upstream.client import ModelClient, iter_body

ARGUMENTS: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "mode=ok é"}],
    "stream": True,
    "stream_options": {"include_usage": True},
    "max_tokens": 7,
}


@pytest.fixture
async def client(model: FakeModel) -> AsyncIterator[ModelClient]:
    endpoint = configured("redis://127.0.0.1:9/0", model).single
    assert endpoint is not None
    async with ModelClient(endpoint) as client:
        yield client


async def test_a_call_is_sent_as_the_sdk_sends_it(model: FakeModel, client: ModelClient) -> None:
    async with contextlib.aclosing(await client.send(ARGUMENTS)) as response:
        await response.aread()
    async with openai.AsyncOpenAI(
        api_key="sk-secret",
        base_url=model.url,
        http_client=openai.DefaultAioHttpClient(),
        timeout=openai.Timeout(None),
    ) as sdk:
        async for _ in await sdk.chat.completions.create(**ARGUMENTS):
            pass
    ours, theirs = model.calls
    assert theirs.headers == ours.headers
    assert theirs.body == ours.body


class Sent(httpx2.AsyncByteStream):
    """A body as it comes from the network."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


async def test_a_body_comes_as_it_was_sent_and_is_decoded_where_it_was_encoded() -> None:
    plain = httpx2.Response(200, stream=Sent(b"data: a\n", b"\n"))
    assert [b"data: a\n", b"\n"] == [piece async for piece in iter_body(plain)]
    packed = gzip.compress(b"data: a\n\n")
    headers = {"Content-Encoding": "gzip"}
    encoded = httpx2.Response(200, headers=headers, stream=Sent(packed[:9], packed[9:]))
    assert b"data: a\n\n" == b"".join([piece async for piece in iter_body(encoded)])


async def test_a_refusal_is_the_sdks_own_error(client: ModelClient) -> None:
    asked = ARGUMENTS | {"messages": [{"role": "user", "content": "mode=busy after=3"}]}
    with pytest.raises(openai.RateLimitError) as caught:
        await client.send(asked)
    assert ("3", 429) == (
        caught.value.response.headers["retry-after"],
        caught.value.status_code,
    )
