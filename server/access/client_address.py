"""Finds a client's address, which identifies end users who send no token. Pure: no I/O."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Providers give each customer a /64 or more.
IPV6_BITS: Final = 64
# Proxies may add a port: 192.0.2.1:4711, [2001:db8::1]:4711.
_WITH_PORT: Final = re.compile(r"(?:\[(?P<six>[^\]]+)\]|(?P<four>[0-9.]+))(?::[0-9]+)?")


def networks(written: str) -> tuple[Network, ...]:
    """Parses a comma-separated list of addresses and networks. Raises: ValueError."""
    return tuple(
        ipaddress.ip_network(part.strip(), strict=False)
        for part in written.split(",")
        if part.strip()
    )


def client_address(peer: str | None, forwarded: Iterable[str], trusted: tuple[Network, ...]) -> str:
    """Returns the address of a client, or its /64 network for IPv6.

    It is empty if the peer has no address. `forwarded` holds the values of `X-Forwarded-For`, to
    which each proxy appends the address of its own peer. They are read from the right, for as long
    as a trusted proxy has appended them. Everything further left can be forged by the client.
    """
    address = _address(peer or "")
    if address is None:
        return ""
    hops = ",".join(forwarded).split(",")
    while hops and any(address in network for network in trusted):
        before = _address(hops.pop())
        if before is None:
            break
        address = before
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, IPV6_BITS), strict=False))


def _address(written: str) -> Address | None:
    text = written.strip()
    if match := _WITH_PORT.fullmatch(text):
        text = match["six"] or match["four"]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        # A scope id names an interface of this machine and is not part of the client's address.
        plain = ipaddress.IPv6Address(int(address))
        return plain.ipv4_mapped or plain
    return address
