"""Tests that the server recognizes an official SDK's retry as the same request."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from jobs.redis.pipe import Pipe
from server.app import SERVER
from tests.keys_without_ttl import keys_without_ttl
from tests.server.conftest import Client, Serve
from tests.server.factories import Worker
from tests.system import wait_until

ALL, CHAT = "/v1/responses", "/v1/chat/completions"
BODIES: dict[str, dict[str, Any]] = {
    ALL: {"input": "Why?"},
    CHAT: {"messages": [{"role": "user", "content": "Why?"}]},
}


def ask(
    client: Client, body: dict[str, Any], retry: int = 0, *, path: str = ALL, **headers: str
) -> asyncio.Task[aiohttp.ClientResponse]:
    """Sends a POST with the retry count header that an SDK sends."""

    async def post() -> aiohttp.ClientResponse:
        shown = {"X-Stainless-Retry-Count": str(retry), **headers}
        answer = await client.post(path, json=body, headers=shown)
        await answer.read()
        return answer

    return asyncio.create_task(post())


async def cut(asking: asyncio.Task[Any]) -> None:
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


async def submitted(client: Client) -> int:
    return int(client.app[SERVER].metrics.registry.get("holdline_submitted_total", "true"))


@pytest.mark.parametrize("path", BODIES)
async def test_the_retry_of_an_interrupted_request_receives_its_answer(
    serve: Serve, worker: Worker, pipe: Pipe, path: str
) -> None:
    client, other = await serve(), await serve()
    first = ask(client, BODIES[path], path=path)
    taken = await worker.take()
    await cut(first)
    again = ask(other, BODIES[path], 1, path=path)
    await wait_until(lambda: other.app[SERVER].streams._waiters, 5)
    await taken.say("So")
    await taken.complete()
    answer = await again
    assert (200, taken.job.id) == (answer.status, answer.headers["X-Response-Id"])
    assert (1, 0) == (await submitted(client), await submitted(other))
    assert not await keys_without_ttl(pipe)
    assert not await pipe.call("KEYS", "holdline:*replies:*")


async def test_retries_of_two_requests_receive_two_answers(serve: Serve, worker: Worker) -> None:
    client, other = await serve(), await serve()
    firsts = [ask(client, BODIES[ALL]) for _ in range(2)]
    taken = [await worker.take() for _ in range(2)]
    for first in firsts:
        await cut(first)
    again = [ask(other, BODIES[ALL], 1) for _ in range(2)]
    await wait_until(lambda: len(other.app[SERVER].streams._waiters) == 2, 5)
    for answer in taken:
        await answer.say("So")
        await answer.complete()
    ids = {answer.headers["X-Response-Id"] for answer in await asyncio.gather(*again)}
    assert {answer.job.id for answer in taken} == ids
    assert 0 == await submitted(other)


@pytest.mark.parametrize(
    ("body", "retry", "headers"),
    [
        ({"input": "Why?"}, 0, {}),
        ({"input": "Why not?"}, 1, {}),
        ({"input": "Why?", "stream": True}, 1, {}),
        ({"input": "Why?"}, 1, {"Idempotency-Key": "k"}),
    ],
    ids=["deliberate", "another body", "another way", "a key"],
)
async def test_a_different_request_receives_its_own_answer(
    client: Client, worker: Worker, body: dict[str, Any], retry: int, headers: dict[str, str]
) -> None:
    first = ask(client, BODIES[ALL])
    taken = await worker.take()
    await cut(first)
    await wait_until(lambda: not client.app[SERVER].streams._waiters, 5)
    again = ask(client, body, retry, **headers)
    own = await worker.take()
    assert taken.job.id != own.job.id
    await own.complete()
    assert own.job.id == (await again).headers["X-Response-Id"]
    await taken.complete()


async def test_a_retry_does_not_take_the_answer_of_a_connected_caller(
    serve: Serve, worker: Worker
) -> None:
    client, other = await serve(), await serve()
    first = ask(client, BODIES[ALL])
    taken = await worker.take()
    again = ask(other, BODIES[ALL], 1)
    own = await worker.take()
    for answer in (taken, own):
        await answer.complete()
    assert taken.job.id == (await first).headers["X-Response-Id"]
    assert own.job.id == (await again).headers["X-Response-Id"]


async def test_a_retry_after_an_error_response_submits_again(
    client: Client, worker: Worker
) -> None:
    first = ask(client, BODIES[ALL])
    taken = await worker.take()
    await taken.fail("upstream_busy")
    assert 429 == (await first).status
    again = ask(client, BODIES[ALL], 1)
    own = await worker.take()
    await own.complete()
    assert own.job.id == (await again).headers["X-Response-Id"]
