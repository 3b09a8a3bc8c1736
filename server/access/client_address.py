"""Determines a client's address, which identifies end users who send no token. Pure: no I/O."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Internet providers assign each customer at least a /64 network.
IPV6_BITS: Final = 64
# Matches an address with or without a port, which some proxies add: 192.0.2.1:4711 or
# [2001:db8::1]:4711.
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

    The result is empty if the peer has no address. `forwarded` holds the values of
    `X-Forwarded-For`, to which each proxy appends the address of its own peer. The values are read
    from right to left, as long as a trusted proxy has appended them. The client can forge
    everything further left.
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


# A client sends many requests, and parsing its address takes a fiftieth of an answer.
@functools.lru_cache(maxsize=1024)
def _address(written: str) -> Address | None:
    text = written.strip()
    if match := _WITH_PORT.fullmatch(text):
        text = match["six"] or match["four"]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        # An IPv6 scope id names an interface of this machine and is not part of the client's
        # address.
        plain = ipaddress.IPv6Address(int(address))
        return plain.ipv4_mapped or plain
    return address
