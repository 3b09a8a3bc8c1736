"""Tests pings, server shutdown, and clients that disconnect or stop reading."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from typing import Any

import pytest
from aiohttp import WSMsgType, WSServerHandshakeError

from holdline_client.protocol import close_advice
from jobs.log.log import READ_BYTES
from server.api.close_codes import CloseCode
from server.api.frames import websocket_frame
from server.app import SERVER, Server
from server.websocket import backpressure as backpressure_module
from server.websocket.writer import MAX_BUFFERED
from tests.server.conftest import Client, Serve
from tests.server.factories import Worker
from tests.server.talk import ALL, Talk, at_rest, connected, sockets_of
from tests.system import EXTENSIONS, wait_until

# Pings


async def test_a_pong_carries_the_last_sequence_number_of_each_followed_response(
    talk: Talk, worker: Worker
) -> None:
    await talk.say("holdline:ping", id=1)
    assert {} == (await talk.until("holdline:pong"))["responses"]
    await talk.say("response.create", input="Why?")
    answer = await worker.take()
    await answer.say("a")
    last = (await talk.until("response.output_text.delta"))["sequence_number"]
    await talk.say("holdline:ping", id="two")
    pong = await talk.until("holdline:pong")
    assert ("two", {answer.job.id: last}) == (pong["id"], pong["responses"])
    await answer.complete()
    await talk.until("response.completed")
    await talk.say("holdline:ping")
    pong = await talk.until("holdline:pong")

    assert (None, {}) == (pong["id"], pong["responses"])


async def test_an_abandoned_socket_releases_everything(
    client: Client, worker: Worker, server: Server
) -> None:
    before = len(asyncio.all_tasks())
    for _ in range(5):
        async with connected(client) as talk:
            for lane in "abc":
                await talk.say("response.create", input="Why?", stream_id=lane)
                await talk.say("response.create", input="And?", stream_id=lane)
            await talk.until("response.created")
    await wait_until(lambda: at_rest(server))

    assert len(asyncio.all_tasks()) <= before + 2
    assert 0 == server.metrics.followers.count
    assert 0 == server.metrics.sockets.count


async def test_a_client_that_does_not_answer_pings_is_dropped(serve: Serve) -> None:
    client = await serve(ping_seconds="0.2")
    server = client.app[SERVER]
    async with client.ws_connect(ALL, protocols=EXTENSIONS, autoping=False) as ws:
        assert "holdline:welcome" == (await ws.receive_json())["type"]
        await wait_until(lambda: at_rest(server))


async def test_a_stopping_server_closes_with_a_reconnect_code_and_a_delay(
    talk: Talk, worker: Worker, server: Server, client: Client
) -> None:
    await talk.say("response.create", input="Why?")
    answer = await worker.take()
    await answer.say("a")
    await talk.until("response.output_text.delta")
    going = asyncio.create_task(server.drain())
    close = await talk.ws.receive(timeout=8)

    assert CloseCode.RESTARTING == close.data
    assert close_advice(close.data, close.extra or "").after > 0
    await going
    with pytest.raises(WSServerHandshakeError) as refused:
        await client.ws_connect(ALL)
    assert refused.value.headers is not None
    assert (503, "1") == (refused.value.status, refused.value.headers["Retry-After"])
    await answer.complete()


# Clients that do not read


async def not_reading(client: Client, *messages: dict[str, Any]) -> socket.socket:
    """Returns a connected client that has sent a request and never reads."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(raw, ("127.0.0.1", client.port))
    await loop.sock_sendall(
        raw,
        b"GET /v1/responses HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )
    for message in messages:
        payload = json.dumps(message).encode()
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        length = bytes([0x80 | len(payload)])
        assert len(payload) < 126
        await loop.sock_sendall(raw, b"\x81" + length + mask + masked)
    return raw


async def test_a_client_that_never_reads_holds_only_a_cursor_and_is_closed_at_a_deadline(
    client: Client, worker: Worker, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backpressure_module, "STUCK_SECONDS", 1.0)
    async with connected(client) as talk:
        await talk.say("response.create", input="Why?")
        answer = await worker.take()
        [reads] = sockets_of(server)
        reading = asyncio.create_task(talk.until("response.completed"))
        resume = {"type": "holdline:resume", "response_id": answer.job.id}
        with contextlib.closing(await not_reading(client, resume)):
            await wait_until(lambda: len(server.sockets) == 2)
            [stuck] = sockets_of(server) - {reads}
            transport = stuck._transport
            assert transport is not None
            largest = 0
            for _ in range(40):
                await answer.say("x" * 50_000)
                largest = max(largest, transport.get_write_buffer_size())
            await answer.complete()
            # Meanwhile, other sockets are not delayed.
            end = await reading
            await wait_until(lambda: stuck not in server.sockets)
            largest = max(largest, transport.get_write_buffer_size())

        assert 2_000_000 == len(end["response"]["output"][0]["content"][0]["text"])
        assert MAX_BUFFERED < largest < MAX_BUFFERED + READ_BYTES + 200_000
        assert 1 == server.metrics.closed_slow.count
        assert {reads} == sockets_of(server)
    await wait_until(lambda: at_rest(server))


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 1_000_000])
def test_frames_conform_to_rfc_6455(length: int) -> None:
    payload = b"x" * length
    data = websocket_frame(payload, WSMsgType.TEXT)
    size, start = data[1], 2
    if size == 126:
        size, start = int.from_bytes(data[2:4], "big"), 4
    elif size == 127:
        size, start = int.from_bytes(data[2:10], "big"), 10

    assert (0x81, length, payload) == (data[0], size, data[start:])
    assert data[1] < 126 or length >= 126
