"""Restricts webhooks to public IP addresses. Pure.

The table follows IANA's special-purpose registries (RFC 6890). `ipaddress.is_global` is not used,
because its results differ between versions of Python. In IPv6, only 2000::/3 is assigned as global
unicast. All other addresses are refused, so a prefix that is assigned later is refused until it is
added here.
"""

from __future__ import annotations

import ipaddress
from typing import Final

# Networks that are used within one machine, one site or one cloud, by a protocol, or for examples.
_REFUSED_V4: Final = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; the metadata service of one cloud
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # the host agent of one cloud, although the address is public
        "169.254.0.0/16",  # link-local; the metadata services of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; the metadata service of one cloud
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
_GLOBAL_V6: Final = ipaddress.IPv6Network("2000::/3")
_REFUSED_V6: Final = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments; Teredo, which embeds IPv4 addresses
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which embeds IPv4 addresses
        "3fff::/20",  # documentation
    )
)
# Networks whose last 32 bits are an IPv4 address. Resolvers return them on networks without IPv4.
_WRAPPING: Final = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::ffff:0:0/96"))
# ISATAP interface identifiers (RFC 5214): the site's router forwards to the IPv4 address after it.
_ISATAP: Final = (0x0000_5EFE, 0x0200_5EFE)


def is_public(address: str) -> bool:
    """Returns True if `address` is the text of a public IP address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv4Address):
        return _is_public_v4(parsed)
    if any(parsed in network for network in _WRAPPING):
        return _is_public_v4(ipaddress.IPv4Address(parsed.packed[-4:]))
    return (
        parsed in _GLOBAL_V6
        and parsed.scope_id is None  # a scope id names a network interface of this machine
        and not any(parsed in network for network in _REFUSED_V6)
        and int.from_bytes(parsed.packed[8:12]) not in _ISATAP
    )


def _is_public_v4(address: ipaddress.IPv4Address) -> bool:
    return not any(address in network for network in _REFUSED_V4)
