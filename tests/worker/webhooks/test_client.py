"""Tests the addresses allowed for webhooks, and that the checked address is the one used."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

import pytest

from runtime.public_address import is_public
from tests.system import wait_until
from worker.webhooks.client import WebhookClient

if TYPE_CHECKING:
    from aiohttp.abc import ResolveResult


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1"),
        *("169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
        *("192.0.0.9", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1"),
        *("224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff0e::1"),
        *("::127.0.0.1", "::1.1.1.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:0:1.1.1.1"),
        *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "64:ff9b:1::101:101"),
        *("2002:7f00:1::", "2002:101:101::1", "2001:0:7f00:1::", "2001:db8::1", "2001:1::1"),
        *("3fff::1", "100::1", "5f00::1", "4000::1", "e000::1"),
        *("2606:4700::5efe:7f00:1", "2606:4700::200:5efe:a00:1"),
        *("localhost", "", "1.1.1.1 ", "1.1.1", "0x7f000001", "2606:4700:4700::1111%eth0"),
    ],
)
def test_non_public_addresses_are_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "192.0.1.1", "223.255.255.255"),
        *("2606:4700:4700::1111", "2a00:1450:4001::1", "::ffff:1.1.1.1", "64:ff9b::101:101"),
    ],
)
def test_public_addresses_are_allowed(address: str) -> None:
    assert is_public(address)


class Rebinding:
    """A resolver that returns a public address at first and loopback after that."""

    def __init__(self) -> None:
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: Any = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        address = "1.1.1.1" if self.asked == 1 else "127.0.0.1"
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": socket.AF_INET,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
        ]

    async def close(self) -> None:
        """Does nothing: no connection is open."""


async def test_a_name_rebound_after_the_check_cannot_reach_a_private_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reached = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        writer.close()

    private = await asyncio.start_server(serve, "127.0.0.1", 0)
    connected: list[str] = []

    def connect(_: Any, __: Any, address: tuple[Any, ...]) -> Any:
        connected.append(address[0])
        raise OSError("no packet leaves this machine")

    # Block outgoing connections, because the first attempt would go to the public address.
    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", connect)
    async with private, WebhookClient(allow_private=False) as client:
        resolver = Rebinding()
        assert client._http is not None
        monkeypatch.setattr(client._http.connector, "_resolver", resolver)
        url = f"http://hooks.example:{private.sockets[0].getsockname()[1]}/"
        first = await client.send(url, b"{}", {})
        second = await client.send(url, b"{}", {})
    assert ["1.1.1.1"] == connected
    assert resolver.asked == 2
    assert first.reason != "the receiver's address is not public"
    assert second.reason == "the receiver's address is not public"
    assert not reached.is_set()


class HostileReceiver:
    """A receiver that sends the given bytes, and counts the repeated ones that it could send."""

    def __init__(self, reply: bytes, repeated: bytes) -> None:
        self._reply = reply
        self._repeated = repeated
        self.sent = 0
        self.closed = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            writer.write(self._reply)
            await writer.drain()
            while self._repeated:
                writer.write(self._repeated)
                await writer.drain()
                self.sent += len(self._repeated)
            await reader.read()
        self.closed += 1
        writer.close()


ENDLESS = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK = b"10000\r\n%b\r\n" % (b"x" * 65_536)
REDIRECT = b"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n"
WAIT = b"HTTP/1.1 503 Busy\r\nRetry-After: %b\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("reply", "repeated", "expected"),
    [
        (b"", b"", (None, "TimeoutError", 0)),
        (b"HTTP/1.1 201", b"", (None, "TimeoutError", 0)),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", (None, "TimeoutError", 0)),
        (b"HTTP/1.1 201 Created\r\n", b"X-Header: a\r\n" * 500, None),
        (ENDLESS, CHUNK, (201, "", 0)),
        (
            b"HTTP/1.1 201 Created\r\nContent-Length: 9999999999\r\n\r\n",
            b"x" * 65_536,
            (201, "", 0),
        ),
        (WAIT % b"60", b"", (503, "", 60)),
        (WAIT % (b"9" * 400), b"", (503, "", 0)),
        (WAIT % "٣".encode(), b"", (503, "", 0)),
        (REDIRECT % 1, b"", (307, "", 0)),
    ],
)
async def test_a_hostile_receiver_cannot_hold_up_the_worker_or_fill_its_memory(
    reply: bytes, repeated: bytes, expected: tuple[int | None, str, float] | None
) -> None:
    hostile = HostileReceiver(reply, repeated)
    server = await asyncio.start_server(hostile.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, WebhookClient(allow_private=True, total=1.0) as client:
        async with asyncio.timeout(20):
            result = await client.send(f"http://127.0.0.1:{port}/", b"payload", {})
        await wait_until(lambda: hostile.closed == 1)
    if expected is None:
        assert result.status is None
    else:
        assert expected == (result.status, result.reason, result.retry_after)
    assert hostile.sent < 16 * 1_048_576
