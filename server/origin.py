"""One spelling for each origin and host, so that two spellings of one site are equal. Pure.

An origin is `scheme://host[:port]`, or `null` for a page without one (RFC 6454, and the URL
Standard for hosts). Apps and browser extensions have schemes of their own: `capacitor://localhost`.
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
    # A comma would end the entry in the list of origins; the rest ends a host in an address.
    r"(?P<host>\[[0-9a-f:.]+\]|[^\s\x00-\x20\x7f,:/?#@\[\]\\<>^|\"'`]*)"
    r"(?::(?P<port>[0-9]{1,5}))?",
    re.IGNORECASE,
)
_NAME: Final = re.compile(r"[a-z0-9._~-]*", re.IGNORECASE)


def canonical(origin: str) -> str | None:
    """The origin in the spelling of browsers, or None if no browser can send it.

    The scheme and the host are in lower case, a host with other letters is in punycode, and a
    port that the scheme implies is left out.
    """
    if origin == "null":
        return origin
    match = _ORIGIN.fullmatch(origin) if len(origin) <= MAX_ORIGIN_LENGTH else None
    if match is None:
        return None
    scheme, port = match["scheme"].lower(), int(match["port"] or 0)
    host = _host(match["host"], web=scheme in DEFAULT_PORTS)
    # A socket's page has an http or https origin, whatever the socket's own address is.
    if host is None or scheme in ("ws", "wss") or port > 65535 or (match["port"] and not port):
        return None
    shown = f":{port}" if port and port != DEFAULT_PORTS.get(scheme) else ""
    return f"{scheme}://{host}{shown}"


def _host(host: str, *, web: bool) -> str | None:
    try:
        if host.startswith("["):
            return f"[{ipaddress.IPv6Address(host[1:-1])}]"
        # The host of another scheme is opaque: browsers do not convert it, and it may be empty.
        name = URL(f"http://{host}").raw_host if web and host else host
    except ValueError:
        return None
    if not name and web:
        return None
    return name.lower() if name is not None and _NAME.fullmatch(name) else None


@functools.lru_cache(maxsize=64)
def canonical_host(host: str) -> str | None:
    """The name in a `Host` header, without the port and an IPv6 address's brackets.

    Returns None for what is no `host` or `host:port`.
    """
    origin = canonical(f"http://{host}")
    return None if origin is None else URL(origin).raw_host


def is_loopback(host: str) -> bool:
    """True for an address of loopback, and for the names that always mean one (RFC 6761)."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
