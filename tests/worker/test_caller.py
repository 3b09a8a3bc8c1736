"""A call is what the SDK would have sent."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.fake_model import FakeModel
from tests.worker.desk import configured
from worker.caller import Caller

ARGUMENTS: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "mode=ok é"}],
    "stream": True,
    "stream_options": {"include_usage": True},
    "max_tokens": 7,
}


@pytest.fixture
async def caller(model: FakeModel) -> AsyncIterator[Caller]:
    endpoint = configured("redis://127.0.0.1:9/0", model).single
    assert endpoint is not None
    async with Caller(endpoint) as caller:
        yield caller


async def test_a_call_is_sent_as_the_sdk_sends_it(model: FakeModel, caller: Caller) -> None:
    async with contextlib.aclosing(await caller.send(ARGUMENTS)) as response:
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


async def test_a_refusal_is_the_sdks_own_error(caller: Caller) -> None:
    asked = ARGUMENTS | {"messages": [{"role": "user", "content": "mode=busy after=3"}]}
    with pytest.raises(openai.RateLimitError) as caught:
        await caller.send(asked)
    assert ("3", 429) == (
        caught.value.response.headers["retry-after"],
        caught.value.status_code,
    )
