"""Tests that responses with `store: false` are deleted shortly after their delivery."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgpack  # type: ignore[import-untyped]
import pytest

from jobs.record import Status
from jobs.redis.pipe import Pipe
from tests.jobs.factories import NAMES
from tests.server.conftest import Client, Serve
from tests.server.factories import Worker
from tests.server.talk import ALL, Talk, connected
from tests.server.unstored import ANSWER, SECRET, gone

KEY = "a-key-of-mine"
BODY: dict[str, Any] = {"input": SECRET, "store": False, "idempotency_key": KEY}


async def ttl(pipe: Pipe, response_id: str) -> list[int]:
    """Returns the TTLs in seconds of the job, the log and the idempotency key of a response."""
    names = [NAMES.job(response_id), NAMES.log(response_id), NAMES.idempotency("public", KEY)]
    return [await pipe.call("PTTL", name) / 1000 for name in names]


async def let_go(pipe: Pipe, response_id: str) -> None:
    """Returns when the response's TTL has been cut to the grace period."""
    async with asyncio.timeout(5):
        while not all(0 < left <= 60 for left in await ttl(pipe, response_id)):
            pass


@asynccontextmanager
async def reading(ws: aiohttp.ClientWebSocketResponse) -> AsyncIterator[None]:
    """Yields a client that keeps reading and therefore answers pings."""

    async def read() -> None:
        async for _ in ws:
            pass

    task = asyncio.create_task(read())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def ask(talk: Talk, worker: Worker, **more: Any) -> str:
    await talk.say("response.create", **BODY, **more)
    return (await worker.answer(ANSWER)).job.id


@pytest.fixture
async def brief(serve: Serve) -> Client:
    """Starts a server with a short grace period for unstored responses."""
    return await serve(unstored_seconds="0.2")


async def test_an_unstored_response_is_deleted_after_delivery_to_its_socket(
    client: Client, worker: Worker, pipe: Pipe
) -> None:
    async with connected(client) as talk:
        id_ = await ask(talk, worker)
        await talk.until("response.completed")
        async with reading(talk.ws):
            await let_go(pipe, id_)
        async with client.get(f"{ALL}/{id_}") as again:
            assert 200 == again.status, "for the length of the grace"


@pytest.mark.parametrize("way", ["socket", "packed", "resume", "streamed", "plain", "background"])
async def test_an_unstored_response_leaves_nothing_after_any_kind_of_delivery(
    brief: Client, worker: Worker, pipe: Pipe, way: str
) -> None:
    match way:
        case "socket":
            async with connected(brief) as talk:
                id_ = await ask(talk, worker)
                await talk.until("response.completed")
                async with reading(talk.ws):
                    await gone(pipe)
        case "packed":
            async with brief.ws_connect(ALL, protocols=["holdline.msgpack"]) as ws:
                await ws.send_bytes(msgpack.packb({"type": "response.create", **BODY}))
                answering = asyncio.create_task(worker.answer(ANSWER))
                while msgpack.unpackb(await ws.receive_bytes())["type"] != "response.completed":
                    pass
                id_ = (await answering).job.id
                async with reading(ws):
                    await gone(pipe)
        case "resume":
            async with connected(brief) as talk:
                await talk.say("response.create", **BODY)
                taken = await worker.take()
            await taken.say(ANSWER)
            await taken.complete()
            id_ = taken.job.id
            async with connected(brief) as talk:
                await talk.say("holdline:resume", response_id=id_, starting_after=2)
                await talk.until("response.completed")
                async with reading(talk.ws):
                    await gone(pipe)
        case "background":
            async with brief.post(ALL, json={**BODY, "background": True}) as accepted:
                id_ = (await accepted.json())["id"]
            await worker.answer(ANSWER)
            assert (await ttl(pipe, id_))[0] > 50, "nobody has it yet"
            async with brief.get(f"{ALL}/{id_}") as answer:
                assert ANSWER in await answer.text()
        case _:
            asking = asyncio.create_task(
                brief.post(ALL, json={**BODY, "stream": way == "streamed"})
            )
            id_ = (await worker.answer(ANSWER)).job.id
            async with await asking as answer:
                assert ANSWER in await answer.text()
    await gone(pipe)
    async with brief.get(f"{ALL}/{id_}") as missing:
        assert (404, "response_not_found") == (
            missing.status,
            (await missing.json())["error"]["code"],
        )


async def test_an_undelivered_unstored_response_is_kept_for_the_retention_time(
    client: Client, worker: Worker, pipe: Pipe
) -> None:
    async with aiohttp.ClientSession() as http:
        # This client does not answer the ping, so it has not confirmed that it read the answer.
        ws = await http.ws_connect(client.make_url(ALL), autoping=False)
        await ws.send_json({"type": "response.create", **BODY})
        id_ = (await worker.answer(ANSWER)).job.id
        while (await ws.receive_json(timeout=8))["type"] != "response.completed":
            pass
        ping = await ws.receive(timeout=8)
        assert (aiohttp.WSMsgType.PING, b"1") == (ping.type, bytes(ping.data))
        # The pong's payload differs from that of the ping.
        await ws.pong(b"99")
        await ws.close()
    left = await ttl(pipe, id_)
    # The response keeps the retention time that the test's worker has set.
    assert all(59 < each <= 60 for each in left)
    async with client.get(f"{ALL}/{id_}") as again:
        assert ANSWER in await again.text()


async def test_a_cancelled_or_deleted_unstored_response_is_removed(
    brief: Client, worker: Worker, pipe: Pipe
) -> None:
    async with brief.post(ALL, json={**BODY, "background": True}) as accepted:
        id_ = (await accepted.json())["id"]
    async with brief.post(f"{ALL}/{id_}/cancel") as cancelled:
        assert "cancelled" == (await cancelled.json())["status"]
    await gone(pipe)
    async with brief.post(ALL, json={**BODY, "background": True}) as accepted:
        id_ = (await accepted.json())["id"]
    async with brief.delete(f"{ALL}/{id_}") as deleted:
        assert 200 == deleted.status
    await gone(pipe)


async def test_a_stored_response_is_kept(client: Client, worker: Worker, pipe: Pipe) -> None:
    async with connected(client) as talk:
        await talk.say("response.create", input=SECRET)
        id_ = (await worker.answer(ANSWER)).job.id
        await talk.until("response.completed")
        await talk.say("holdline:ping")
        await talk.until("holdline:pong")
    names = [NAMES.job(id_), NAMES.log(id_)]
    assert all([await pipe.call("PTTL", name) > 59_000 for name in names])


async def test_a_resent_turn_finds_its_response_after_the_socket_state_is_lost(
    client: Client, worker: Worker
) -> None:
    async with connected(client) as talk:
        await talk.say("response.create", input="One?", store=False)
        first = (await worker.answer("One.")).job.id
        await talk.until("response.completed")
        await talk.say("response.create", **BODY, previous_response_id=first)
        second = await worker.take()
    async with connected(client) as talk:
        await talk.say("response.create", **BODY, previous_response_id=first)
        assert second.job.id == (await talk.until("response.created"))["response"]["id"]
        await second.complete(Status.COMPLETED)
        await talk.until("response.completed")
        await talk.say("response.create", input="?", previous_response_id=first)
        assert "previous_response_not_found" == (await talk.error())[1]


async def test_an_unstored_response_retrieved_while_running_is_kept(
    client: Client, worker: Worker, pipe: Pipe
) -> None:
    async with client.post(ALL, json={**BODY, "background": True}) as accepted:
        id_ = (await accepted.json())["id"]
    async with client.get(f"{ALL}/{id_}") as waiting:
        assert "queued" == (await waiting.json())["status"]
    assert (await ttl(pipe, id_))[0] > 3600
    await worker.answer(ANSWER)
