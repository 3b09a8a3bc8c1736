"""Converts origins and host names to a canonical spelling for comparison. Pure: no I/O.

An origin is `scheme://host[:port]`, or `null` for a page without an origin (RFC 6454; for hosts,
the URL Standard). Apps and browser extensions use other schemes, such as `capacitor://localhost`.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from typing import Final

from yarl import URL

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
MAX_ORIGIN_LENGTH: Final = 2048

_ORIGIN: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://"
    # A comma would end the entry in the list of origins; the other characters end a host in a URL.
    r"(?P<host>\[[0-9a-f:.]+\]|[^\s\x00-\x20\x7f,:/?#@\[\]\\<>^|\"'`]*)"
    r"(?::(?P<port>[0-9]{1,5}))?",
    re.IGNORECASE,
)
_NAME: Final = re.compile(r"[a-z0-9._~-]*", re.IGNORECASE)


def canonical(origin: str) -> str | None:
    """Returns the origin in the spelling of browsers, or None if no browser can send it.

    The scheme and the host are in lower case, a host with non-ASCII letters is in punycode, and
    the default port of the scheme is left out.
    """
    if origin == "null":
        return origin
    match = _ORIGIN.fullmatch(origin) if len(origin) <= MAX_ORIGIN_LENGTH else None
    if match is None:
        return None
    scheme, port = match["scheme"].lower(), int(match["port"] or 0)
    host = _host(match["host"], web=scheme in DEFAULT_PORTS)
    # A page that opens a socket has an http or https origin, even though the socket's URL is ws or
    # wss.
    if host is None or scheme in ("ws", "wss") or port > 65535 or (match["port"] and not port):
        return None
    shown = f":{port}" if port and port != DEFAULT_PORTS.get(scheme) else ""
    return f"{scheme}://{host}{shown}"


def _host(host: str, *, web: bool) -> str | None:
    try:
        if host.startswith("["):
            return f"[{ipaddress.IPv6Address(host[1:-1])}]"
        # For other schemes the host is opaque: browsers do not convert such a host, and it may be
        # empty.
        name = URL(f"http://{host}").raw_host if web and host else host
    except ValueError:
        return None
    if not name and web:
        return None
    return name.lower() if name is not None and _NAME.fullmatch(name) else None


@functools.lru_cache(maxsize=64)
def canonical_host(host: str) -> str | None:
    """Returns the host name in a `Host` header, without port and without IPv6 brackets.

    Returns None for a value that is neither `host` nor `host:port`.
    """
    origin = canonical(f"http://{host}")
    return None if origin is None else URL(origin).raw_host


@functools.lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
    """Returns True for loopback addresses and the reserved names for them (RFC 6761)."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
