"""Authenticates the client of one socket, and closes the socket when its credential expires.

upgraded -- valid token in time --> authenticated -- token about to expire, client warned --+
|                                    ^                                                      |
| no token in time, or invalid       +------- fresh token of the same owner ----------------+
v                                                                                           v
closed with 4408 or 4401                         closed with 4401 after a grace; answers go on
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from jobs.errors import HoldlineError
from jobs.names import tenant_of
from server.access import principal
from server.access.jwt import LEEWAY_SECONDS
from server.access.principal import OF_MESSAGES, Principal
from server.api.client_messages import Auth, parse_message
from server.api.close_codes import CloseCode
from server.api.problem import Problem
from server.api.refusals import from_error

if TYPE_CHECKING:
    from server.config import AuthConfig
    from server.http.auth_middleware import Authenticator

    from .limits import SocketLimiter

TELL_SECONDS: Final = 30.0  # how long before a token expires the server warns its client
LOOK_SECONDS: Final = 3.0  # how often an API key is checked for revocation
IDLE_SECONDS: Final = 3600.0


class Connection(Protocol):
    """The methods of a socket, or of a stream of events, that `SocketAuth` uses."""

    def say(self, message: dict[str, Any]) -> None:
        """Writes a message to the socket."""

    async def close(self, code: CloseCode, reason: str) -> None:
        """Closes the socket with this code and reason."""


async def heard(changed: asyncio.Event, seconds: float) -> bool:
    """Waits for the event; returns False if it is not set within `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        return False
    return True


class SocketAuth:
    """Authenticates the client of one socket. `watch` runs as long as the socket is open."""

    __slots__ = (
        "_address",
        "_authenticator",
        "_changed",
        "_connection",
        "_credential",
        "_limiter",
        "_settings",
        "_tenant",
        "_who",
        "limits",
    )

    def __init__(
        self,
        authenticator: Authenticator,
        settings: AuthConfig,
        limiter: SocketLimiter,
        who: Principal | None,
        credential: str | None,
        address: str,
    ) -> None:
        """Initializes the authentication with the result of the upgrade request.

        `who` is the principal of `credential` if the upgrade was authenticated. If `who` is None,
        the credential has not been checked yet, or there is none and the first message must carry
        one. `address` is the client's address.
        """
        self._limiter = limiter
        self._tenant: str | None = None
        self.limits = limiter.usual
        self._authenticator = authenticator
        self._settings = settings
        self._who = who
        self._address = address
        self._credential = credential
        self._changed: asyncio.Event | None = None  # set while `watch` runs
        self._connection: Connection | None = None

    @property
    def who(self) -> Principal:
        """The socket's principal. Raises: Problem if the socket is not authenticated yet."""
        if self._who is None:
            raise principal.missing()
        return self._who

    @property
    def known(self) -> Principal | None:
        """The socket's principal, or None if the socket is not authenticated yet."""
        return self._who

    @property
    def unauthenticated(self) -> bool:
        """True while the socket has no principal, so that the first message must authenticate."""
        return self._who is None

    async def reserve(self) -> None:
        """Counts the socket for its tenant, if there is one, until `release`. Raises: Problem."""
        if self._who is not None:
            await self._reserve(self._who)

    async def _reserve(self, who: Principal) -> None:
        tenant = tenant_of(who.owner)
        self.limits = await self._limiter.take(tenant)
        self._tenant = tenant

    def release(self) -> None:
        """Stops counting the socket when the socket ends."""
        self._connection = None  # breaks a reference cycle: the connection refers to this object
        if self._tenant is not None:
            self._limiter.release(self._tenant)

    def check(self, kind: type) -> None:
        """Raises Problem if the principal has expired or may not send this kind of message."""
        self.check_scope(OF_MESSAGES.get(kind, principal.ANYTHING))

    def check_scope(self, scope: str) -> None:
        """Raises Problem if the principal has expired or lacks the scope."""
        if self.who.ended(time.time() - LEEWAY_SECONDS):
            raise principal.refused()
        self.who.check(scope)

    async def enter(self, connection: Connection) -> None:
        """Stores the open connection, and checks the upgrade's credential if not yet checked."""
        self._connection = connection
        if self.unauthenticated and self._credential is not None:
            await self._show(self._credential)

    async def authenticate(self, body: dict[str, Any]) -> None:
        """Handles a `holdline:auth` message, which has no effect on a server without keys.

        Raises: Problem for a malformed message.
        """
        message = parse_message(body)
        if not self._authenticator.open and isinstance(message, Auth):
            await self._show(message.token)

    async def reject(self, problem: Problem) -> None:
        """Sends the problem to the client, and closes the socket."""
        assert self._connection is not None  # noqa: S101 - `enter` comes first
        self._connection.say(problem.event())
        too_many = problem.status == 429
        code = CloseCode.TOO_MANY if too_many else CloseCode.UNAUTHENTICATED
        await self._connection.close(code, problem.code)

    async def _show(self, credential: str) -> None:
        assert self._connection is not None  # noqa: S101 - `enter` comes first
        try:
            who = await self._authenticator.authenticated(credential, self._address)
            if self._who is not None and who.owner != self._who.owner:
                raise principal.other_owner()
            if self._who is None:
                await self._reserve(who)
        except (Problem, HoldlineError) as error:
            problem = from_error(error)
            if self.unauthenticated and problem.status < 500:
                await self.reject(problem)
            elif self.unauthenticated:
                self._connection.say(problem.event())
                await self._connection.close(CloseCode.TRY_AGAIN, problem.code)
            else:
                # The socket's earlier credential stays valid.
                self._connection.say(problem.event())
            return
        self._who, self._credential = who, credential
        if self._changed is not None:
            self._changed.set()
        self._connection.say(
            {
                "type": "holdline:authenticated",
                "expires_in_seconds": self._left(who.expires_at),
                "scopes": sorted(who.scopes),
                "tenant": self.limits,
            }
        )

    async def watch(self) -> None:
        """Closes the socket when its credential is missing, expired or revoked.

        Returns after closing the socket, or at once if the server does not authenticate.
        """
        if self._authenticator.open:
            return
        self._changed = changed = asyncio.Event()
        if self.unauthenticated and not await heard(changed, self._settings.auth_seconds):
            assert self._connection is not None  # noqa: S101 - `enter` comes first
            await self._connection.close(CloseCode.SILENT, "no holdline:auth message in time")
            return
        told: float | None = None
        while True:
            changed.clear()
            who, grace = self.who, self._settings.auth_grace_seconds
            left = self._left(who.expires_at)
            if (left is not None and left <= -grace) or not await self._still_counts(who):
                await self.reject(principal.refused())
                return
            waits = [LOOK_SECONDS if who.key_id else IDLE_SECONDS]
            if left is not None:
                if left <= TELL_SECONDS and told != who.expires_at:
                    told = who.expires_at
                    self._tell(left)
                waits.append(left + grace if told == who.expires_at else left - TELL_SECONDS)
            await heard(changed, max(min(waits), 0.01))

    async def _still_counts(self, who: Principal) -> bool:
        """Returns False if the API key was revoked, and applies the key's current permissions.

        A token stays valid until it expires.
        """
        if who.key_id is None:
            return True
        try:
            found = await self._authenticator.authenticated(self._credential, self._address)
            if self._who is who:
                self._who = found
        except Problem:
            return False
        except HoldlineError:
            # The key store is unavailable, so the key cannot have been revoked in it.
            return True
        return True

    def _tell(self, left: float) -> None:
        assert self._connection is not None  # noqa: S101 - `enter` comes first
        self._connection.say(
            {
                "type": "holdline:expiring",
                "expires_in_seconds": max(round(left, 1), 0.0),
                "grace_seconds": self._settings.auth_grace_seconds,
            }
        )

    @staticmethod
    def _left(expires_at: float | None) -> float | None:
        return None if expires_at is None else round(expires_at - time.time(), 3)
