"""Distinguishes public IP addresses from those of private networks, hosts and clouds.

The tables of refused networks follow IANA's special-purpose registries (RFC 6890).
`ipaddress.is_global` is not used, because its results differ between versions of Python. In IPv6,
only 2000::/3 is assigned as global unicast. `is_public` refuses all other IPv6 addresses, including
prefixes that IANA assigns in the future, until they are added here.
"""

from __future__ import annotations

import ipaddress
from typing import Final

# IPv4 networks that are not public: they are used within one machine, one site or one cloud, by a
# protocol, or in examples.
_REFUSED_V4: Final = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # addresses of the local network ("this network")
        "10.0.0.0/8",  # private networks
        "100.64.0.0/10",  # carrier-grade NAT, and a cloud's metadata service
        "127.0.0.0/8",  # loopback addresses
        "168.63.129.16/32",  # a public address that a cloud uses for its host agent
        "169.254.0.0/16",  # link-local addresses, and the metadata services of most clouds
        "172.16.0.0/12",  # private networks
        "192.0.0.0/24",  # protocol assignments, and a cloud's metadata service
        "192.0.2.0/24",  # addresses for documentation
        "192.88.99.0/24",  # relays between IPv6 and IPv4 (6to4)
        "192.168.0.0/16",  # private networks
        "198.18.0.0/15",  # addresses for benchmarks
        "198.51.100.0/24",  # addresses for documentation
        "203.0.113.0/24",  # addresses for documentation
        "224.0.0.0/4",  # multicast addresses
        "240.0.0.0/4",  # reserved addresses, and the broadcast address
    )
)
_GLOBAL_V6: Final = ipaddress.IPv6Network("2000::/3")
_REFUSED_V6: Final = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, and Teredo, whose addresses contain IPv4 addresses
        "2001:db8::/32",  # addresses for documentation
        "2002::/16",  # 6to4 addresses, which contain IPv4 addresses
        "3fff::/20",  # addresses for documentation
    )
)
# The IPv6 networks in which the last 32 bits of an address are an IPv4 address. Resolvers return
# such addresses on networks without IPv4.
_WRAPPING: Final = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::ffff:0:0/96"))
# The prefixes of ISATAP interface identifiers (RFC 5214). A router forwards packets for such an
# address to the IPv4 address that follows the prefix.
_ISATAP: Final = (0x0000_5EFE, 0x0200_5EFE)


def is_public(address: str) -> bool:
    """Returns True if the string `address` is a public IP address."""
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
