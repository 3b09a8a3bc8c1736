"""Tests that HTTP requests with the same idempotency key share one response."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request

from tests.server.factories import Worker
from tests.server.http.steps import ALL, background, refusal

Client = TestClient[Request, Application]
Serve = Callable[..., Awaitable[Client]]


async def test_the_same_key_leads_to_the_same_response(client: Client, worker: Worker) -> None:
    headers = {"Idempotency-Key": "k1"}
    ids = set()
    for _ in range(3):
        async with client.post(
            ALL, json={"input": "Why?", "background": True}, headers=headers
        ) as response:
            ids.add((await response.json())["id"])
    answer = await worker.answer("Because.")
    async with client.post(
        ALL, json={"input": "Why?", "background": True, "idempotency_key": "k1"}
    ) as response:
        body = await response.json()

    assert {answer.job.id} == ids
    assert (answer.job.id, "completed") == (body["id"], body["status"])


async def test_thirty_concurrent_requests_with_one_key_create_one_response(
    client: Client, worker: Worker
) -> None:
    asked = [
        asyncio.create_task(
            client.post(ALL, json={"input": "Why?"}, headers={"Idempotency-Key": "k"})
        )
        for _ in range(30)
    ]
    answer = await worker.answer("Because.")
    bodies = [await (await each).json() for each in asked]

    assert {answer.job.id} == {body["id"] for body in bodies}
    assert 1 == len(
        [key for key in await worker._pipe.call("KEYS", "*job:*") if key.startswith(b"holdline:")]
    )


async def test_a_key_with_another_body_is_refused(client: Client) -> None:
    id_ = await background(client, idempotency_key="k")
    async with client.post(ALL, json={"input": "Other?", "idempotency_key": "k"}) as response:
        assert (422, "idempotency_key_reused", "idempotency_key") == await refusal(response)
        assert id_ == (await response.json())["error"]["response_id"]


@pytest.mark.parametrize("key", [b"", b"k" * 256])
async def test_a_key_that_is_too_short_or_too_long_is_refused(client: Client, key: bytes) -> None:
    head, body = await raw(client, b'{"input":"Why?","background":true}', key)

    assert b" 400 " in head
    assert "idempotency_key" == json.loads(body)["error"]["param"]


async def test_a_key_of_bytes_that_are_not_utf_8_is_accepted(client: Client) -> None:
    ids = set()
    for key in (b"\xff\xfe", b"\xff\xfe", "ключ".encode()):
        head, body = await raw(client, b'{"input":"Why?","background":true}', key)
        assert b" 200 " in head
        ids.add(json.loads(body)["id"])

    assert 2 == len(ids)


async def raw(client: Client, body: bytes, key: bytes) -> tuple[bytes, bytes]:
    """Sends a raw POST request and returns the status line and the body of the reply."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(
        b"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Length: %d\r\nIdempotency-Key: %b\r\n\r\n%b" % (len(body), key, body)
    )
    head, _, answer = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return head.split(b"\r\n")[0], answer
