"""Tests the addresses allowed for webhooks, and that the checked address is the one used."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from runtime.public_address import is_public
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
