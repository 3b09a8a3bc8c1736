"""Upgrades requests to WebSockets, within the limits of the server and of the tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from server.access.principal import from_offers
from server.api.problem import Problem
from server.http.auth_middleware import CREDENTIAL, PRINCIPAL
from server.http.errors import WS_VERSION

from .auth import SocketAuth

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from server.config import Config
    from server.connection_limit import ConnectionLimit
    from server.http.auth_middleware import Authenticator

    from .limits import SocketLimiter

OFFERS: Final = "Sec-WebSocket-Protocol"


class OpenSocket(Protocol):
    """The WebSocket of one client, on any route."""

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Upgrades the request, and returns after the connection has ended and is cleaned up."""

    async def restart(self, retry_after_ms: int) -> None:
        """Closes the socket; the close reason states when the client may connect again."""

    def tell_health(self, *, healthy: bool) -> None:
        """Tells the client that answers may be late, or that answers are on time again."""


class Upgrader:
    """Opens the WebSockets of a server. `sockets` are the open ones."""

    def __init__(
        self,
        config: Config,
        authenticator: Authenticator,
        limiter: SocketLimiter,
        limit: ConnectionLimit,
    ) -> None:
        """`limiter` counts the sockets of each tenant, and `limit` those of the server."""
        self._config = config
        self._authenticator = authenticator
        self._limiter = limiter
        self._limit = limit
        self.sockets: set[OpenSocket] = set()
        limit.count(self.sockets)
        self.draining = False

    async def serve(
        self, create: Callable[[SocketAuth, list[str]], OpenSocket], request: web.Request
    ) -> web.StreamResponse:
        """Upgrades a request, and serves its socket.

        `create` returns the socket for an authentication and the offered subprotocols. Raises:
        Problem.
        """
        upgrade = request.headers.get("Upgrade", "").lower()
        version = request.headers.get("Sec-WebSocket-Version", WS_VERSION)
        if upgrade != "websocket" or version != WS_VERSION:
            raise Problem(
                426,
                "upgrade_required",
                "Open a WebSocket connection to this path, or send a POST request.",
            )
        self._check_room()
        auth = self.auth_of(request)
        try:
            await auth.reserve()
            # Other sockets may have been opened while `reserve` waited.
            self._check_room()
            socket = create(auth, _offers_of(request))
            self.sockets.add(socket)
            try:
                return await socket.serve(request)
            finally:
                self.sockets.discard(socket)
        finally:
            auth.release()

    def auth_of(self, request: web.Request) -> SocketAuth:
        """Returns the object that ends a long-lived connection when its credential ends."""
        return SocketAuth(
            self._authenticator,
            self._config.access,
            self._limiter,
            request.get(PRINCIPAL),
            request.get(CREDENTIAL) or from_offers(_offers_of(request)),
            self._authenticator.address_of(request),
        )

    def _check_room(self) -> None:
        """Raises Problem if the server is draining or has reached its limit of connections."""
        if self.draining:
            raise Problem(
                503, "server_restarting", "The server is restarting. Try again.", retry_after=1
            )
        self._limit.check()


def _offers_of(request: web.Request) -> list[str]:
    """Returns the subprotocols that the client offers."""
    return request.headers.getall(OFFERS, [])
