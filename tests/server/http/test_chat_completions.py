"""Tests the chat completions route with a real Redis and a worker that the test controls."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import ClientPayloadError

from jobs.record import Status
from jobs.redis.pipe import Pipe
from server.app import SERVER
from tests.server.conftest import Client, Serve
from tests.server.factories import Worker
from tests.server.unstored import ANSWER, SECRET, gone

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": SECRET}]}


def chunks(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line[:6] == "data: "]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_unstored_completion_is_deleted_after_delivery(
    serve: Serve, worker: Worker, pipe: Pipe, stream: bool
) -> None:
    client = await serve(unstored_seconds="0.2")
    asking = asyncio.create_task(client.post(CHAT, json={**BODY, "store": False, "stream": stream}))
    await worker.answer(ANSWER)
    async with await asking as answer:
        assert ANSWER in await answer.text()
    await gone(pipe)


async def test_a_stream_sends_comments_while_waiting_and_ends_with_done(
    serve: Serve, worker: Worker
) -> None:
    client = await serve(ping_seconds="0.05")
    async with client.post(CHAT, json={**BODY, "stream": True}) as answer:
        while b": still here\n" != await answer.content.readline():
            pass
        taken = await worker.answer("So", " it is.")
        *told, done = chunks(await answer.text())
    assert taken.job.id == answer.headers["X-Response-Id"]
    assert "[DONE]" == done
    assert "So it is." == "".join(
        chunk["choices"][0]["delta"].get("content") or "" for chunk in told
    )
    assert "stop" == told[-1]["choices"][0]["finish_reason"]


async def test_a_stopping_server_ends_a_stream_with_the_id_to_continue_from(
    client: Client, worker: Worker
) -> None:
    async with client.post(CHAT, json={**BODY, "stream": True}) as answer:
        taken = await worker.take()
        await taken.say("So")
        while b"So" not in await answer.content.readline():
            pass
        await client.app[SERVER].drain()
        told = b""
        # The client raises an exception, because the stream has no final chunk.
        with pytest.raises(ClientPayloadError):
            while piece := await answer.content.readany():
                told += piece
    last = json.loads(told.rpartition(b"data: ")[2])
    assert "server_restarting" == last["error"]["code"]
    assert taken.job.id == last["error"]["response_id"]
    assert "cannot be resumed" in last["error"]["message"]
    assert taken.job.id in last["error"]["message"]
    await taken.complete()


async def test_the_stream_of_a_deleted_completion_ends_with_an_error(
    client: Client, worker: Worker
) -> None:
    async with client.post(CHAT, json={**BODY, "stream": True}) as answer:
        taken = await worker.take()
        await taken.say("So")
        async with client.delete(f"/v1/responses/{taken.job.id}") as deleted:
            assert 200 == deleted.status
        *_, last = chunks(await answer.text())
    assert "response_gone" == last["error"]["code"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_cancelled_completion_is_an_error(
    client: Client, worker: Worker, stream: bool
) -> None:
    asking = asyncio.create_task(client.post(CHAT, json={**BODY, "stream": stream}))
    taken = await worker.take()
    await taken.complete(Status.CANCELLED)
    async with await asking as answer:
        text = await answer.text()
    assert (409, "false") == (answer.status, answer.headers["X-Should-Retry"])
    assert "cancelled" == json.loads(text)["error"]["code"]


@pytest.mark.parametrize(
    ("cause", "status", "code"),
    [
        ("upstream_rejected", 400, "invalid_prompt"),
        ("upstream_model_not_found", 404, "model_not_found"),
        ("upstream_busy", 429, "rate_limit_exceeded"),
    ],
)
async def test_a_failure_before_the_first_chunk_is_an_http_error(
    client: Client, worker: Worker, cause: str, status: int, code: str
) -> None:
    asking = asyncio.create_task(client.post(CHAT, json={**BODY, "stream": True}))
    taken = await worker.take()
    await taken.fail(cause)
    async with await asking as answer:
        error = (await answer.json())["error"]
    assert (status, code) == (answer.status, error["code"])
    assert taken.job.id == answer.headers["X-Response-Id"]


async def test_a_failure_after_the_first_chunk_ends_the_stream_with_an_error(
    client: Client, worker: Worker
) -> None:
    asking = asyncio.create_task(client.post(CHAT, json={**BODY, "stream": True}))
    taken = await worker.take()
    await taken.say("So")
    async with await asking as answer:
        await taken.fail("upstream_busy")
        *_, piece, last = chunks(await answer.text())
    assert (200, "So") == (answer.status, piece["choices"][0]["delta"]["content"])
    assert "rate_limit_exceeded" == last["error"]["code"]


async def test_a_stream_starts_after_a_second_without_a_chunk(
    client: Client, worker: Worker
) -> None:
    async with client.post(CHAT, json={**BODY, "stream": True}) as answer:
        taken = await worker.take()
        await taken.fail("upstream_busy")
        *_, last = chunks(await answer.text())
    assert (200, "rate_limit_exceeded") == (answer.status, last["error"]["code"])


async def test_chat_completions_have_the_same_checks_as_other_requests(client: Client) -> None:
    async with client.post(CHAT, data="{") as refused:
        assert "invalid_json" == (await refused.json())["error"]["code"]
    async with client.post(CHAT, json={"model": "m"}) as refused:
        error = (await refused.json())["error"]
    assert (400, "missing_required_parameter", "messages") == (
        refused.status,
        error["code"],
        error["param"],
    )
    async with client.get(CHAT) as refused:
        assert 405 == refused.status
