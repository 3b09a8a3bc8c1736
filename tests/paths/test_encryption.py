"""Tests that with encryption, all features work and Redis stores no text unencrypted."""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import pytest
from openai import AsyncOpenAI

import holdline_client
from jobs.names import Partition, partition_of
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from tests.fake_model import FakeModel
from tests.jobs.dump import dump
from tests.paths.conftest import sdk
from tests.system import System, wait_until

pytestmark = pytest.mark.timeout(90)
CANARY = "canary"
SAYS = f"tokens=8 say={CANARY}-answer"


class CommandRecorder:
    """Records every command that Redis executes, including all stored and published data."""

    def __init__(self, url: str) -> None:
        self._redis = Redis(url)
        self._task: asyncio.Task[None] | None = None
        self.recorded = bytearray()

    async def __aenter__(self) -> Self:
        self._wire = await self._redis.open()
        self._wire.send(b"*1\r\n$7\r\nMONITOR\r\n")
        assert b"+OK\r\n" == await self._wire.reader.readexactly(5)
        self._task = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        self._wire.close()

    async def _listen(self) -> None:
        while data := await self._wire.reader.read(65_536):
            self.recorded += data


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel() as model:
        yield model


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(new_key())
    return path


def new_key() -> str:
    return b64encode(os.urandom(32)).decode()


async def text_of(client: AsyncOpenAI, response_id: str) -> str:
    return (await client.responses.retrieve(response_id)).output_text.strip()


async def use_every_path(system: System, model: FakeModel, pipe: Pipe) -> list[str]:
    """Sends prompts through all features and returns the ids of the responses that are kept."""
    system.environ |= {
        "HOLDLINE_WEBHOOK_URL": "http://127.0.0.1:9/hook",
        "HOLDLINE_WEBHOOK_SECRET": "whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0",
        "HOLDLINE_WEBHOOK_ALLOW_PRIVATE": "1",
    }
    server, other = await asyncio.gather(system.server(), system.server())
    waiting = f"{CANARY}-prompt waits"
    async with sdk(server) as client, sdk(other) as elsewhere:
        cancelled = await client.responses.create(input=waiting, model="m", background=True)
        await client.responses.cancel(cancelled.id)
        doomed = await system.worker(model.url)
        asked: dict[str, Any] = {"model": "m", "instructions": f"{CANARY}-instructions"}
        first = await client.responses.create(input=f"{CANARY}-prompt {SAYS}", **asked)
        assert f"{CANARY}-answer" in first.output_text
        # Another server reads the previous turn, whether compacted or not. The next request is
        # streamed.
        second = await elsewhere.responses.create(
            input=f"{CANARY}-more {SAYS}", previous_response_id=first.id, **asked
        )
        assert f"{CANARY}-prompt" in str(model.calls[-1].body)
        assert f"{CANARY}-answer" in str(model.calls[-1].body["messages"][:-1])
        names = Partition(partition_of(first.id))
        await wait_until(lambda: pipe.call("HEXISTS", names.job(first.id), "compacted"))
        assert first.output_text.strip() == await text_of(elsewhere, first.id)
        stream = await client.responses.create(input=f"{CANARY} {SAYS}", stream=True, **asked)
        events = [event async for event in stream]
        assert "response.completed" == events[-1].type
        # An answer over a socket survives the death of its worker.
        async with holdline_client.connect(server.url) as ours:
            slow = f"{CANARY}-slow mode=slow pace=0.05 tokens=60 say={CANARY}-slow-answer"
            answer = ours.ask(slow)
            await wait_until(lambda: answer.text)
            await doomed.kill()
            await system.worker(model.url)
            assert f"{CANARY}-slow-answer" in await answer
            assert answer.verified
        assert 2 == len([call for call in model.calls if call.prompt == slow])
        # A running response is cancelled and then read from the middle of its log.
        running = await client.responses.create(
            input=f"{CANARY}-cut {slow}", background=True, **asked
        )
        await wait_until(lambda: any("cut" in call.prompt for call in model.calls))
        await elsewhere.responses.cancel(running.id)
        resumed = [
            event
            async for event in await elsewhere.responses.retrieve(
                running.id, stream=True, starting_after=2
            )
        ]
        assert 3 == resumed[0].sequence_number
        assert "response.incomplete" == resumed[-1].type
        return [first.id, second.id, cancelled.id, running.id]


@pytest.mark.parametrize("encrypted", [True, pytest.param(False, marks=pytest.mark.heavy)])
async def test_redis_contains_no_plain_text_if_encryption_is_on(
    system: System, model: FakeModel, pipe: Pipe, keys: Path, redis_url: str, encrypted: bool
) -> None:
    if encrypted:
        system.environ["HOLDLINE_ENCRYPTION_KEYS"] = str(keys)
    async with CommandRecorder(redis_url) as tap:
        ids = await use_every_path(system, model, pipe)
        await wait_until(lambda: ids[-1].encode() in tap.recorded)
    held = repr(await dump(pipe))
    assert all(id_ in held for id_ in ids)
    for seen in (held, tap.recorded.decode("latin-1")):
        assert encrypted != (CANARY in seen)


@pytest.mark.heavy
async def test_encryption_keys_can_be_rotated_during_an_answer(
    system: System, model: FakeModel, keys: Path
) -> None:
    old, new = keys.read_text(), new_key()
    system.environ["HOLDLINE_ENCRYPTION_KEYS"] = str(keys)
    server, worker = await asyncio.gather(system.server(), system.worker(model.url))
    async with sdk(server) as client:
        before = await client.responses.create(input=SAYS, model="m")
        for listed in (f"{old}\n{new}\n", f"{new}\n{old}\n"):
            # The worker is replaced in the middle of a slow answer.
            began = len(model.calls)
            slow = await client.responses.create(
                input=f"mode=slow pace=0.05 tokens=60 say={CANARY} {listed[:4]}",
                model="m",
                background=True,
            )
            await wait_until(lambda began=began: len(model.calls) > began)  # type: ignore[misc]
            keys.write_text(listed)
            await worker.kill()
            worker = await system.worker(model.url)
            renewed = await system.server()
            async with sdk(renewed) as again:
                stream = await again.responses.retrieve(slow.id, stream=True)
                assert "response.completed" == [event async for event in stream][-1].type
                assert before.output_text.strip() == await text_of(again, before.id)
    said = await system.run("check", "--connect", "--program", "server")
    assert "prompts and answers: encrypted with the key" in said
    assert said == said.replace(old[:8], "").replace(new[:8], "")
    assert "prompts and answers: encrypted with the key" in await system.run(
        "check", "--program", "worker"
    )
