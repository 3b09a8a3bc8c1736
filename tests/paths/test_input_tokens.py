"""Tests that an endpoint of the Responses API counts the input tokens, if it can."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from tests.fake_model import FakeModel
from tests.paths.conftest import sdk
from tests.paths.messages import said
from tests.system import System

pytestmark = pytest.mark.timeout(120)
MODELS = """
[models.chat]
base_url = "{url}"
[models.responses]
base_url = "{url}"
api = "responses"
"""


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel(tokens=3) as model:
        yield model


@pytest.fixture
async def ask(model: FakeModel, system: System, tmp_path: Path) -> AsyncIterator[AsyncOpenAI]:
    models = tmp_path / "models.toml"
    models.write_text(MODELS.format(url=model.url))
    system.environ |= {
        "HOLDLINE_MODELS": str(models),
        "HOLDLINE_MODEL": "chat",
        "HOLDLINE_PARTITIONS": "3",
    }
    server, _ = await asyncio.gather(system.server(), system.worker(model.url))
    async with sdk(server) as ask:
        yield ask


async def counted(ask: AsyncOpenAI, **body: Any) -> tuple[int, bool]:
    """Returns the number of tokens, and whether it is an estimate."""
    count = await ask.responses.input_tokens.count(**body)
    return count.input_tokens, (count.model_extra or {})["holdline"]["estimated"]


async def test_an_endpoint_counts_the_whole_input(ask: AsyncOpenAI, model: FakeModel) -> None:
    model.counts = 4321
    conversation = await ask.conversations.create(items=[said("one")])
    first = await ask.responses.create(model="responses", input="two")
    tool: Any = {"type": "function", "name": "f", "parameters": {}, "strict": False}
    text: Any = {"format": {"type": "text"}, "verbosity": "low"}
    options: Any = {"model": "responses", "input": "three", "tools": [tool], "text": text}
    for before, texts in (
        ({}, ["three"]),
        ({"conversation": conversation.id}, ["one", "three"]),
        ({"previous_response_id": first.id}, ["two", first.output_text, "three"]),
    ):
        assert (4321, False) == await counted(ask, **options, **before)
        body = model.calls[-1].body
        assert texts == [item["content"][0]["text"] for item in body["input"]]
        assert {"model", "input", "tools", "text"} == body.keys()
        assert (tool, "low") == (body["tools"][0], body["text"]["verbosity"])
    # The counts are no part of the conversation.
    items = [item async for item in ask.conversations.items.list(conversation.id)]
    assert 1 == len(items)


async def test_the_number_is_an_estimate_if_no_endpoint_counts(
    ask: AsyncOpenAI, model: FakeModel
) -> None:
    estimate, estimated = await counted(ask, model="responses", input="x" * 400)
    assert (True, True) == (estimated, 100 < estimate < 150)
    assert [] == model.calls
    model.counts = 7
    assert (estimate, True) == await counted(ask, model="chat", input="x" * 400)
    assert (7, False) == await counted(ask, model="responses", input="x" * 400)
    model.refuse = lambda _: {"message": "No"}
    model.counts = -1
    assert (estimate, True) == await counted(ask, model="responses", input="x" * 400)


@pytest.mark.heavy
async def test_a_count_that_nobody_makes_in_time_is_an_estimate(
    system: System, model: FakeModel, tmp_path: Path
) -> None:
    models = tmp_path / "models.toml"
    models.write_text(MODELS.format(url=model.url))
    served = {"HOLDLINE_MODELS": str(models), "HOLDLINE_MODEL": "chat"}
    server = await system.server(**served)
    async with sdk(server) as ask:
        estimate, estimated = await counted(ask, model="responses", input="x" * 400)
        assert (True, True) == (estimated, 100 < estimate < 150)
        # The request for the number is gone, so a worker that starts later does not send it.
        model.counts = 7
        await system.worker(model.url, **served)
        await ask.responses.create(model="responses", input="x")
    assert ["ok"] == [call.mode for call in model.calls]
