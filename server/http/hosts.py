"""The names that requests may call this server by: a defence against DNS rebinding.

Where nobody authenticates, the server listens on loopback and trusts the machine's own users. A
page of another site could let its own name resolve to loopback after it was loaded: the browser
would take this server for the page's own site and send no foreign `Origin`. `Host` still carries
the page's name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from server.api.problem import Problem
from server.origin import canonical_host, is_loopback

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection

    from aiohttp.typedefs import Handler

SETTING: Final = "HOLDLINE_ALLOWED_HOSTS"
# Probes call a server by any name, and these routes tell nothing but their status.
PROBES: Final = frozenset({"/livez", "/readyz", "/health"})


class Hosts:
    """The names besides those of loopback."""

    def __init__(self, allowed: Collection[str]) -> None:
        """Takes the names in their canonical spelling."""
        self._allowed = frozenset(allowed)

    def allows(self, host: str | None) -> bool:
        """True for the `Host` header of a request that may pass. Browsers always send one."""
        if host is None:
            return True
        name = canonical_host(host)
        return name is not None and (name in self._allowed or is_loopback(name))

    def add_to(self, app: web.Application) -> None:
        """Guards every route but those of probes."""
        app.middlewares.append(self._guard())

    def _guard(self) -> Any:
        @web.middleware
        def guard(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
            # No coroutine of its own, which would be kept as long as a socket is open.
            if request.path in PROBES or self.allows(request.headers.get("Host")):
                return handler(request)
            raise Problem(403, "host_not_allowed", _advice(request.headers["Host"]))

        return guard


def _advice(host: str) -> str:
    name = canonical_host(host)
    if name is None:
        return "The Host header must be a name, with or without a port."
    return (
        f"This server is not known as {name}. If it should be, start it with {SETTING}={name} "
        "(names are separated by commas)."
    )
