"""Checks the `Origin` header, so that only our own pages and HOLDLINE_ALLOWED_ORIGINS are served.

A browser names the page's site in `Origin`. CORS does not restrict WebSockets, and restricts a
simple POST only in part, so the server itself refuses other sites. A request without `Origin` does
not come from a browser and is allowed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from server.api.problem import Problem
from server.origin import canonical

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection

    from aiohttp.typedefs import Handler

SETTING: Final = "HOLDLINE_ALLOWED_ORIGINS"
GUARDED: Final = "/v1/"
METHODS: Final = "GET, POST, DELETE, OPTIONS"
# Our own clients' headers that CORS requires the server to allow. Other headers are allowed when
# the browser asks for them: the official SDKs send a dozen x-stainless-* headers, and new versions
# may add more.
ALLOWED_HEADERS: Final = ("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID")
MAX_ASKED_HEADERS: Final = 64
# Matches a header name as defined in RFC 9110, up to 64 characters, which exceeds any name in use.
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
EXPOSED_HEADERS: Final = (
    "Retry-After, X-Response-Id, X-Should-Retry, "
    "X-RateLimit-Limit-Requests, X-RateLimit-Remaining-Requests, "
    "X-RateLimit-Limit-Tokens, X-RateLimit-Remaining-Tokens, X-RateLimit-Limit-Money, "
    "X-RateLimit-Limit-Running, X-RateLimit-Limit-Waiting, X-RateLimit-Limit-Input-Tokens, "
    "X-RateLimit-Limit-Waiting-Bytes, X-RateLimit-Limit-Sockets, X-RateLimit-Limit-Queue, "
    "X-RateLimit-Limit-Conversation-Bytes"
)
PREFLIGHT_SECONDS: Final = "600"


class Origins:
    """The allowed origins, and the CORS headers for requests from these origins."""

    def __init__(self, allowed: Collection[str]) -> None:
        """`allowed` holds the origins of the allowed sites in their canonical spelling."""
        self._allowed = frozenset(allowed)

    def allows(self, origin: str | None, host: str) -> bool:
        """Returns True if a site may use the server; `host` is the request's `Host` header."""
        if origin is None or origin in self._allowed:
            return True
        site = canonical(origin)
        if site is None:
            return False
        own = {canonical(f"{scheme}://{host}") for scheme in ("http", "https")}
        return site in self._allowed or site in own

    def add_to(self, app: web.Application) -> None:
        """Adds the API's middleware, and the route that tells a site whether it is allowed."""
        app.middlewares.append(self._guard())
        app.on_response_prepare.append(self._add_headers)
        app.router.add_get("/origin", self._check)

    def _guard(self) -> Any:
        @web.middleware
        def guard(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
            # This is not a coroutine, because a coroutine's frame would stay in memory as long as a
            # socket is open.
            if not request.path.startswith(GUARDED):
                return handler(request)
            # A browser sends one `Origin` header. Multiple headers are joined, so that no allowed
            # origin matches, because a proxy could rely on a different one of the headers than the
            # server.
            origin = ", ".join(request.headers.getall("Origin", ())) or None
            if not self.allows(origin, request.host):
                advice = _advice(origin or "", others=bool(self._allowed))
                raise Problem(403, "origin_not_allowed", advice)
            if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
                return _preflight(request)
            return handler(request)

        return guard

    async def _add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        origin = request.headers.get("Origin")
        if origin is None or not request.path.startswith(GUARDED):
            return
        response.headers.add("Vary", "Origin")
        if origin in self._allowed or canonical(origin) in self._allowed:
            # The origin is echoed unchanged, because the browser compares it literally with its own
            # spelling.
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS

    async def _check(self, request: web.Request) -> web.StreamResponse:
        """Tells any page whether its site is allowed. A refused WebSocket would give no reason."""
        origin = request.headers.get("Origin")
        return web.json_response(
            {
                "origin": origin,
                "allowed": self.allows(origin, request.host),
                "setting": SETTING,
            },
            headers={"Access-Control-Allow-Origin": "*", "Cache-Control": "no-store"},
        )


def _advice(origin: str, *, others: bool) -> str:
    """Returns advice on allowing a site; `others` is True if other sites are already allowed."""
    site = canonical(origin)
    if site is None:
        return f"The site {origin} cannot be allowed, because its Origin header is invalid."
    # All local files and sandboxed frames share the origin `null`, regardless of their author.
    which = "every page without an origin" if site == "null" else "it"
    as_well = " as well" if others else ""
    return (
        f"The site {origin} is not allowed to use this server. To allow {which}{as_well}, "
        f"start the server with {SETTING}={site} (separate several sites with commas)."
    )


async def _preflight(request: web.Request) -> web.StreamResponse:
    return web.Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": ", ".join(_allowed_headers(request)),
            "Access-Control-Max-Age": PREFLIGHT_SECONDS,
            "Vary": "Access-Control-Request-Headers",
        },
    )


def _allowed_headers(request: web.Request) -> list[str]:
    """Returns our own headers and those that the browser requests, without invalid names."""
    asked = ",".join(request.headers.getall("Access-Control-Request-Headers", ())).split(",")
    names = {name.lower(): name for name in ALLOWED_HEADERS}
    for name in asked[:MAX_ASKED_HEADERS]:
        if _HEADER_NAME.fullmatch(name.strip()):
            names.setdefault(name.strip().lower(), name.strip())
    return list(names.values())
