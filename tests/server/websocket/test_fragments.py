"""Tests that nothing is written between the fragments of a large message."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from jobs.log.codec import encode_event
from server.api.encoding import ENCODINGS
from server.api.frames import FRAGMENT_BYTES, Frame, frame
from server.app import Server
from server.websocket.socket import Socket
from tests.jobs.factories import text_delta
from tests.server.conftest import Client
from tests.server.talk import ALL, sockets_of
from tests.system import wait_until

CONTINUATION, TEXT, BINARY, PING = 0, 1, 2, 9


class Blocked:
    """A transport that sends nothing until `sends_all`, and the callback of its slow consumer."""

    def __init__(self) -> None:
        self.written = bytearray()
        self._left = 0
        self._caught_up: Callable[..., None] | None = None

    def write(self, data: bytes) -> None:
        self.written += data
        self._left += len(data)

    def get_write_buffer_size(self) -> int:
        return self._left

    def is_closing(self) -> bool:
        return False

    def watch(self, _: asyncio.WriteTransport, caught_up: Callable[..., None]) -> object:
        assert self._caught_up is None
        self._caught_up = caught_up
        return object()

    def sends_all(self) -> bool:
        """Sends the buffered bytes. Returns False if nobody waits for this."""
        self._left = 0
        caught_up, self._caught_up = self._caught_up, None
        if caught_up is None:
            return False
        caught_up(stuck=False)
        return True


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields the opcode and the payload of each message. Fails if RFC 6455, 5.4 is violated."""
    opened: tuple[int, bytes] | None = None
    at = 0
    while at < len(data):
        final, opcode, length = data[at] & 0x80, data[at] & 0x0F, data[at + 1]
        size = {126: 2, 127: 8}.get(length, 0)
        at += 2 + size
        if size:
            length = int.from_bytes(data[at - size : at])
        payload, at = data[at : at + length], at + length
        assert length == len(payload)
        if opcode >= PING:
            assert final
            yield opcode, payload
            continue
        assert (opcode == CONTINUATION) == (opened is not None)
        kind, before = opened or (opcode, b"")
        opened = kind, before + payload
        if final:
            yield opened
            opened = None
    assert opened is None


def delta(number: int, text: str) -> Frame:
    return frame(number, encode_event(text_delta("msg_1", 0, text)))


def large(number: int) -> Frame:
    return delta(number, f"{number}" * (3 * FRAGMENT_BYTES))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("lane", ["", "b"])
@pytest.mark.parametrize("between", ["small", "large", "mixed", "message", "ping"])
async def test_events_and_messages_wait_until_a_large_message_is_complete(
    client: Client, server: Server, encoding: str, lane: str, between: str
) -> None:
    async with client.ws_connect(ALL, protocols=[encoding]):
        await wait_until(lambda: [each for each in sockets_of(server) if each._transport])
        [socket] = sockets_of(server)
        kept = socket._transport, socket._services.slow
        blocked: Any = Blocked()
        socket._transport = blocked
        socket._services.slow = blocked

        def deliver(name: str | None, *frames: Frame) -> None:
            follower: Any = SimpleNamespace(lane=socket._encoding.lane(name), obfuscated=False)
            socket.deliver(follower, [*frames])

        deliver("a", large(1))
        assert FRAGMENT_BYTES < blocked.get_write_buffer_size() < 2 * FRAGMENT_BYTES
        sent = _between(socket, between, lambda *frames: deliver(lane or None, *frames))
        while blocked.sends_all():
            pass
        assert socket.writable
        socket._transport, socket._services.slow = kept
    found = [*messages(bytes(blocked.written))]
    assert [1, *sent] == [
        payload if kind == PING else _decoded(kind, payload).get("sequence_number", "error")
        for kind, payload in found
    ]


def _between(socket: Socket, what: str, deliver: Callable[..., None]) -> list[Any]:
    """Writes something to the socket. Returns the number, type or payload of what was written."""
    match what:
        case "small":
            deliver(delta(2, "x"), delta(3, "y"))
            return [2, 3]
        case "large":
            deliver(large(2))
            return [2]
        case "mixed":
            deliver(delta(2, "x"), large(3))
            deliver(delta(4, "y"))
            return [2, 3, 4]
        case "message":
            socket.say({"type": "error", "error": {"code": "x"}})
            return ["error"]
        case _:
            socket.ping(b"7")
            return [b"7"]


def _decoded(kind: int, payload: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(payload) if kind == TEXT else msgspec.msgpack.decode(payload)
    return value
