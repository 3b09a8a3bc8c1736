"""Tests the limit of a server's open WebSockets and event streams."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from jobs.redis.pipe import Pipe
from server.app import SERVER
from tests.error_codes import own_code
from tests.server import ag_ui
from tests.server.conftest import Client, Serve
from tests.server.factories import Worker
from tests.system import EXTENSIONS, wait_until

UPGRADE: Final = {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
PROMPT: Final = {"input": "Why?", "stream": True}
MESSAGE: Final = {"role": "user", "content": "Why?"}
CHAT: Final = {
    "id": "chat-1",
    "messages": [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Why?"}]}],
}
# The requests that open a socket or a stream; `{}` stands for the id of a response.
OPENING: Final[list[tuple[str, str, dict[str, Any]]]] = [
    ("GET", "/v1/responses", {"headers": UPGRADE}),
    ("GET", ag_ui.API, {"headers": UPGRADE}),
    ("POST", "/v1/responses", {"json": PROMPT}),
    ("POST", "/v1/chat/completions", {"json": {"messages": [MESSAGE], "stream": True}}),
    ("POST", "/v1/ai-sdk", {"json": CHAT}),
    ("POST", ag_ui.API, {"json": ag_ui.BODY}),
    ("GET", "/v1/responses/{}?stream=true", {}),
    ("GET", "/v1/ai-sdk/{}/stream", {}),
    ("GET", f"{ag_ui.API}/{{}}/stream?thread_id=t&run_id=r", {}),
    ("GET", "/v1/conversations/{conversation}/events", {}),
]


async def created(client: Client, path: str, body: dict[str, Any]) -> str:
    async with client.post(path, json=body) as answer:
        id_: str = (await answer.json())["id"]
        return id_


async def check_refused(client: Client, method: str, url: str, how: dict[str, Any]) -> None:
    async with client.request(method, url, **how) as answer:
        assert 429 == answer.status, url
        assert "1" == answer.headers["X-RateLimit-Limit-Sockets"]
        assert "5" == answer.headers["Retry-After"]
        error = (await answer.json())["error"]
    assert "socket_limit_exceeded" == own_code(error)
    assert "HOLDLINE_MAX_SOCKETS" in error["message"]


@pytest.mark.parametrize("held", ["conversation", "response", "socket"])
async def test_sockets_and_streams_share_the_limit_of_a_server(
    serve: Serve, worker: Worker, pipe: Pipe, held: str
) -> None:
    client = await serve(max_sockets="1")
    conversation = await created(client, "/v1/conversations", {})
    id_ = await created(client, "/v1/responses", {"input": "Why?", "background": True})
    answer = await worker.take()
    holding: Any
    match held:
        case "conversation":
            holding = client.get(f"/v1/conversations/{conversation}/events")
        case "response":
            holding = client.get(f"/v1/responses/{id_}?stream=true")
        case _:
            holding = client.ws_connect("/v1/responses", protocols=EXTENSIONS)
    jobs = await pipe.call("KEYS", "*job:*")
    async with holding:
        for method, url, how in OPENING:
            path = url.replace("{conversation}", conversation).replace("{}", id_)
            await check_refused(client, method, path, how)
        # No prompt was accepted without its stream, and other requests are not counted.
        assert jobs == await pipe.call("KEYS", "*job:*")
        await created(client, "/v1/responses", {"input": "Why?", "background": True})
    await wait_until(lambda: not client.app[SERVER].sockets)
    await wait_until(lambda: client.app[SERVER].streams.count == 0)
    await answer.complete()
    async with client.get(f"/v1/responses/{id_}?stream=true") as stream:
        assert 200 == stream.status
        await stream.read()
    for _ in range(3):  # an ended stream is not counted any more
        async with client.get(f"/v1/responses/{id_}?stream=true") as stream:
            assert 200 == stream.status


async def test_conversation_streams_that_are_opened_at_once_keep_to_the_limit(
    serve: Serve,
) -> None:
    client = await serve(max_sockets="2")
    id_ = await created(client, "/v1/conversations", {})
    url = f"/v1/conversations/{id_}/events"
    streams = await asyncio.gather(*(client.get(url) for _ in range(9)))
    assert [200] * 2 + [429] * 7 == sorted(stream.status for stream in streams)
    for stream in streams:
        stream.close()
