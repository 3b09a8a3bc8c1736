"""Checks the `Host` header of requests, as a defence against DNS rebinding.

Without authentication, the server listens on loopback and trusts the machine's own users. A
malicious page could make its own host name resolve to loopback after it was loaded. The browser
would then take this server for the page's own site and send no foreign `Origin`, but `Host` would
still carry the page's name.
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
# The health routes accept any host name, so that load balancers can use them. They reveal only the
# server's status.
PROBES: Final = frozenset({"/livez", "/readyz", "/health"})


class Hosts:
    """The allowed host names, in addition to loopback names."""

    def __init__(self, allowed: Collection[str]) -> None:
        """`allowed` holds the host names in their canonical spelling."""
        self._allowed = frozenset(allowed)

    def allows(self, host: str | None) -> bool:
        """Returns True if a request with this `Host` header is allowed.

        A request without the header is allowed, because it cannot come from a browser.
        """
        if host is None:
            return True
        name = canonical_host(host)
        return name is not None and (name in self._allowed or is_loopback(name))

    def add_to(self, app: web.Application) -> None:
        """Adds the middleware, which checks the `Host` header on every route except the probes."""
        app.middlewares.append(self._guard())

    def _guard(self) -> Any:
        @web.middleware
        def guard(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
            # This is not a coroutine, because a coroutine's frame would stay in memory as long as a
            # socket is open.
            if request.path in PROBES or self.allows(request.headers.get("Host")):
                return handler(request)
            raise Problem(403, "host_not_allowed", _advice(request.headers["Host"]))

        return guard


def _advice(host: str) -> str:
    name = canonical_host(host)
    if name is None:
        return "The Host header must be a host name, with or without a port."
    return (
        f"The host name {name} is not allowed. To allow it, start the server with {SETTING}={name} "
        "(separate several names with commas)."
    )
