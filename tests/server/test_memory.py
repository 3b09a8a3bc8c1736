"""Tests that a closed connection is freed without waiting for the garbage collector."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from socket import SO_LINGER, SOL_SOCKET
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from server.app import SERVER, create_app
from server.config import Config
from server.http.connection import listen
from tests.garbage import collected
from tests.server.talk import at_rest
from tests.system import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONNECTIONS = 2
HANDSHAKE = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
KEY = "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
BODY = json.dumps({"input": "why", "model": "m", "stream": True})
PLAIN = json.dumps({"input": "why", "model": "m"})


def post(body: str, length: int | None = None) -> str:
    length = len(body) if length is None else length
    head = f"Content-Type: application/json\r\nContent-Length: {length}\r\n"
    return f"POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}\r\n{body}"


SENT = {
    "half a body": post("{", 1000),
    "a stream": post(BODY),
    "a plain request": post(PLAIN),
    "a socket": f"GET /v1/responses HTTP/1.1\r\nHost: 127.0.0.1\r\n{HANDSHAKE}{KEY}\r\n",
    "no HTTP": "nothing\r\n\r\n",
    "half a head": "GET / HTTP/1.1\r\nHost: 127",
}


@pytest.fixture
async def runner(redis_url: str) -> AsyncIterator[web.AppRunner]:
    settings = {"HOLDLINE_MODEL": "m", "HOLDLINE_SHUTDOWN_GRACE_SECONDS": "0"}
    environ = {"REDIS_URL": redis_url, **settings}
    runner = web.AppRunner(create_app(Config.from_environ(environ)))
    await runner.setup()
    await runner.app[SERVER].connecting  # the start-up leaves reference cycles, once
    yield runner
    await runner.cleanup()


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("sent", SENT)
async def test_a_lost_connection_leaves_no_reference_cycles(
    runner: web.AppRunner, sent: str, reset: bool
) -> None:
    listener = await listen(runner, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    web_server, server = runner.server, runner.app[SERVER]
    assert web_server is not None
    # The first check for losses makes every feed read its log.
    await wait_until(lambda: server.relay.subscriber.healthy and server.relay._epochs)

    async def lost() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, linger)
        writer.write(SENT[sent].encode())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.2)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        await wait_until(lambda: not web_server.connections and at_rest(server))

    try:
        # The first run creates objects that are kept for all connections.
        await lost()
        with collected() as found:
            for _ in range(CONNECTIONS):
                await lost()
    finally:
        listener.close()
    ours = {name: count for name, count in found.ours.items() if not name.startswith("builtins")}
    assert {} == ours
