"""Which sites may use this server from a browser: its own pages, and HOLDLINE_ALLOWED_ORIGINS.

A browser names the site in `Origin`. A socket is not bound by CORS, and a plain POST is only
partly, so the server refuses by itself; a caller without `Origin` is no browser, and passes.
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
# Headers that need permission, of our own clients. Further ones are allowed as they are asked for:
# the official SDKs send a dozen x-stainless-*, and each version may add one.
ALLOWED_HEADERS: Final = ("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID")
MAX_ASKED_HEADERS: Final = 64
# A header name by RFC 9110, and no longer than any that is in use.
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
EXPOSED_HEADERS: Final = (
    "Retry-After, X-Response-Id, X-Should-Retry, "
    "X-RateLimit-Limit-Requests, X-RateLimit-Remaining-Requests, "
    "X-RateLimit-Limit-Tokens, X-RateLimit-Remaining-Tokens, X-RateLimit-Limit-Money, "
    "X-RateLimit-Limit-Running, X-RateLimit-Limit-Waiting, X-RateLimit-Limit-Input-Tokens, "
    "X-RateLimit-Limit-Waiting-Bytes, X-RateLimit-Limit-Sockets, X-RateLimit-Limit-Queue"
)
PREFLIGHT_SECONDS: Final = "600"


class Origins:
    """The sites that may come in, and what they are told."""

    def __init__(self, allowed: Collection[str]) -> None:
        """Takes the allowed sites in their canonical spelling."""
        self._allowed = frozenset(allowed)

    def allows(self, origin: str | None, host: str) -> bool:
        """Whether a site may use the server that was called by the name `host`."""
        if origin is None or origin in self._allowed:
            return True
        site = canonical(origin)
        if site is None:
            return False
        own = {canonical(f"{scheme}://{host}") for scheme in ("http", "https")}
        return site in self._allowed or site in own

    def add_to(self, app: web.Application) -> None:
        """Guards the API, and adds the route at which a site asks whether it is allowed."""
        app.middlewares.append(self._guard())
        app.on_response_prepare.append(self._add_headers)
        app.router.add_get("/origin", self._check)

    def _guard(self) -> Any:
        @web.middleware
        def guard(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
            # No coroutine of its own, which would be kept as long as a socket is open.
            if not request.path.startswith(GUARDED):
                return handler(request)
            # A browser sends one; of several, another reader may believe another one.
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
            # As it was sent: the browser compares it letter by letter with its own spelling.
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS

    async def _check(self, request: web.Request) -> web.StreamResponse:
        """A socket that was refused does not tell a page why; this does, to anyone."""
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
    """How to allow the site; `others` says that the setting is not empty now."""
    site = canonical(origin)
    if site is None:
        return f"The site {origin} may not use this server: it has no origin that could be allowed"
    # `null` is the origin of local files and sandboxed frames, whoever made them.
    which = "every page without an origin" if site == "null" else "it"
    as_well = " as well (sites are separated by commas)" if others else ""
    return (
        f"The site {origin} may not use this server. "
        f"To allow {which}{as_well}, start the server with {SETTING}={site}"
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
    """Our own headers, and those that the browser asks for. An invalid name is left out."""
    asked = ",".join(request.headers.getall("Access-Control-Request-Headers", ())).split(",")
    names = {name.lower(): name for name in ALLOWED_HEADERS}
    for name in asked[:MAX_ASKED_HEADERS]:
        if _HEADER_NAME.fullmatch(name.strip()):
            names.setdefault(name.strip().lower(), name.strip())
    return list(names.values())
