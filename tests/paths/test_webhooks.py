"""Tests webhooks end to end, with a server, workers, a receiver and the official SDK."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from openai import AsyncOpenAI

import holdline_client
from jobs.names import Partition
from jobs.redis.pipe import Pipe
from tests.fake_model import FakeModel
from tests.paths.conftest import sdk
from tests.paths.redis_faults import store
from tests.system import Server, System, wait_until
from tests.webhook_receiver import SECRET, Receiver, receiving


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel() as model:
        yield model


async def background(client: AsyncOpenAI, prompt: str) -> str:
    answer = await client.responses.create(input=prompt, model="m", background=True)
    return answer.id


async def test_a_webhook_is_sent_for_every_kind_of_end_and_no_secret_is_logged(
    system: System, model: FakeModel, receiver: Receiver
) -> None:
    system.environ |= receiver.environ
    server = await system.server()
    async with sdk(server) as client:
        waiting = await background(client, "never")
        await client.responses.cancel(waiting)
        worker = await system.worker(model.url)
        prompts = {"ok": "completed", "400": "failed", "length": "incomplete"}
        expected = [("response.cancelled", waiting)] + [
            (f"response.{status}", await background(client, f"mode={mode}"))
            for mode, status in prompts.items()
        ]
        await wait_until(lambda: len(receiver.told) == 4)
        assert sorted(expected) == sorted(receiver.told)
        fetched = await client.responses.retrieve(expected[1][1])
        assert "completed" == fetched.status
    await wait_until(lambda: worker.output.count("webhook sent") == 4)
    assert SECRET not in worker.output + server.output
    assert "/hook" not in worker.output + server.output


@pytest.mark.heavy
async def test_another_worker_sends_the_webhook_for_the_answer_of_a_dead_worker(
    system: System, model: FakeModel, receiver: Receiver
) -> None:
    system.environ |= receiver.environ | {"HOLDLINE_ON_WORKER_DEATH": "fail"}
    server = await system.server()
    doomed = await system.worker(model.url)
    async with sdk(server) as client:
        lost = await background(client, "mode=slow tokens=500")
        await wait_until(lambda: model.calls)
        await doomed.kill()
        await system.worker(model.url)
        await wait_until(lambda: receiver.told)
    assert [("response.failed", lost)] == receiver.told


async def test_webhooks_are_sent_only_for_unseen_answers_if_configured(
    system: System, model: FakeModel, receiver: Receiver, pipe: Pipe
) -> None:
    unseen_only = {"HOLDLINE_WEBHOOK_ONLY_IF_UNSEEN_SECONDS": "4"}
    system.environ |= receiver.environ | unseen_only
    server = await system.server()
    await system.worker(model.url)
    async with holdline_client.connect(server.url) as client, sdk(server) as http:
        await client.ask("by socket")
        await http.responses.create(input="by request", model="m")
        async for _ in await http.responses.create(input="by stream", model="m", stream=True):
            pass
        unseen = await background(http, "by nobody")
        later = await background(http, "followed")
        async for _ in await http.responses.retrieve(later, stream=True, starting_after=-1):
            pass
        await wait_until(lambda: receiver.told)
    assert [("response.completed", unseen)] == receiver.told
    assert 4 == int(await pipe.call("HGET", Partition(0).numbers, "~seen"))

    async def none_waits() -> bool:
        return not await pipe.call("ZCARD", Partition(0).hooks)

    await wait_until(none_waits)  # Redis records the delivery after the receiver has got it


async def test_an_answer_whose_socket_closed_before_the_end_counts_as_unseen(
    system: System, model: FakeModel, receiver: Receiver
) -> None:
    system.environ |= receiver.environ | {"HOLDLINE_WEBHOOK_ONLY_IF_UNSEEN_SECONDS": "1"}
    server = await system.server()
    await system.worker(model.url)
    response_id = await abandon_answer(server)
    await wait_until(lambda: receiver.told)
    assert [("response.completed", response_id)] == receiver.told


async def abandon_answer(server: Server) -> str:
    """Sends a prompt and closes the socket after the first event. Returns the response id."""
    async with aiohttp.ClientSession() as http, http.ws_connect(server.ws_url) as ws:
        ask = {"type": "response.create", "input": "mode=slow tokens=30", "model": "m"}
        await ws.send_json(ask)
        async for message in ws:
            event = message.json()
            if event["type"] == "response.created":
                response_id: str = event["response"]["id"]
                return response_id
    raise AssertionError("not accepted")


@pytest.mark.heavy
async def test_a_webhook_is_still_sent_after_redis_is_killed_and_restarted(
    model: FakeModel, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.refuse = 1
    async with store.running() as redis, System(redis.url, tmp_path) as system:
        system.environ |= receiver.environ
        server = await system.server()
        worker = await system.worker(model.url)
        async with sdk(server) as client:
            told_later = await background(client, "x")
        await wait_until(lambda: "webhook attempt failed" in worker.output)
        await redis.kill()
        await redis.start()
        await wait_until(lambda: receiver.told)
    assert [("response.completed", told_later)] == receiver.told


async def test_a_count_of_tokens_sends_no_webhook(
    system: System, model: FakeModel, receiver: Receiver, tmp_path: Path
) -> None:
    models = tmp_path / "models.toml"
    models.write_text(f'[models.m]\nbase_url = "{model.url}"\napi = "responses"\n')
    system.environ |= {**receiver.environ, "HOLDLINE_MODELS": str(models), "HOLDLINE_MODEL": "m"}
    model.counts = 7
    server = await system.server()
    await system.worker(model.url)
    async with sdk(server) as client:
        assert 7 == (await client.responses.input_tokens.count(model="m", input="x")).input_tokens
        id_ = await background(client, "x")
        await wait_until(lambda: receiver.told)
    assert [("response.completed", id_)] == receiver.told


async def test_the_feedback_of_a_user_is_reported_without_the_prompt_and_the_answer(
    system: System, model: FakeModel, receiver: Receiver, tmp_path: Path
) -> None:
    keys = tmp_path / "encryption"
    keys.write_text(base64.b64encode(os.urandom(32)).decode())
    system.environ |= receiver.environ | {"HOLDLINE_ENCRYPTION_KEYS": str(keys)}
    server = await system.server()
    worker = await system.worker(model.url)
    async with sdk(server) as client, aiohttp.ClientSession(server.url) as http:
        id_ = (await client.responses.create(input="say=secret", model="m")).id
        for rating, comment in (("up", ""), ("down", "canary"), ("down", "canary")):
            body = {"rating": rating, "comment": comment}
            async with http.post(f"/v1/responses/{id_}/feedback", json=body) as answer:
                assert 200 == answer.status
    await wait_until(lambda: receiver.feedback and receiver.feedback[-1]["rating"] == "down")
    assert {"id": id_, "rating": "down", "comment": "canary"} == receiver.feedback[-1]
    assert len(receiver.feedback) <= 2
    assert "canary" not in worker.output + server.output
