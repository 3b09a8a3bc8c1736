"""Tests answers whose text is continued after their worker was killed, with the SDK."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI

from jobs.log.events import CONTINUED, RESTARTED
from tests.fake_continuing import answer
from tests.fake_model import FakeModel
from tests.fake_wire import Script
from tests.paths.conftest import sdk
from tests.system import System, wait_until

MODELS = """
[models.m]
base_url = "{url}"
continues = "vllm"

[models.fails]
base_url = "{url}"
continues = "vllm"
on_worker_death = "fail"
"""
TEXT = "".join(answer(Script(tokens=20)))


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel() as model:
        yield model


@pytest.fixture
async def client(system: System, model: FakeModel, tmp_path: Path) -> AsyncIterator[AsyncOpenAI]:
    path = tmp_path / "models.toml"
    path.write_text(MODELS.format(url=model.url))
    system.environ |= {"HOLDLINE_MODELS": str(path), "HOLDLINE_MODEL": "m"}
    async with sdk(await system.server()) as client:
        yield client


async def test_the_stream_accumulator_of_the_sdk_accepts_a_continued_text(
    system: System, model: FakeModel, client: AsyncOpenAI
) -> None:
    model.script = {"at": 13}
    worker = await system.worker(model.url)

    async def kill() -> None:
        await wait_until(lambda: model.calls and len(model.calls[0].sent) == 65)
        await system.worker(model.url)
        model.script = {}
        await worker.kill()

    async with client.responses.stream(input="mode=continuing tokens=20", model="m") as stream:
        killing = asyncio.create_task(kill())
        kinds: list[str] = [event.type async for event in stream]
        final = await stream.get_final_response()
        await killing
    assert [CONTINUED] == [kind for kind in kinds if kind in (CONTINUED, RESTARTED)]
    assert TEXT == final.output_text
    assert 1 == len(final.output)
    first, second = model.calls
    assert TEXT == first.sent + second.sent


@pytest.mark.parametrize(
    ("named", "chosen", "text"),
    [
        pytest.param("fails", None, TEXT[:65], marks=pytest.mark.heavy),
        ("fails", "continue", TEXT),
        pytest.param("m", "fail", TEXT[:65], marks=pytest.mark.heavy),
    ],
    ids=["model", "request", "request-fails"],
)
async def test_the_request_and_the_models_file_select_the_policy_for_a_death(
    system: System, model: FakeModel, client: AsyncOpenAI, named: str, chosen: str, text: str
) -> None:
    model.script = {"at": 13}
    worker = await system.worker(model.url)
    asked = await client.responses.create(
        input="mode=continuing tokens=20",
        model=named,
        background=True,
        metadata={"holdline_on_worker_death": chosen} if chosen else None,
    )
    await wait_until(lambda: model.calls and len(model.calls[0].sent) == 65)
    await system.worker(model.url)
    model.script = {}
    await worker.kill()

    async def ended() -> bool:
        return (await client.responses.retrieve(asked.id)).status not in ("queued", "in_progress")

    await wait_until(ended)
    found = await client.responses.retrieve(asked.id)
    assert text == found.output_text
    if text == TEXT:
        assert "completed" == found.status
    else:
        assert found.error is not None
        assert ("failed", "worker_lost") == (found.status, found.holdline["error_code"])  # type: ignore[attr-defined]
