"""Who is at the other end of one socket, and until when.

upgraded ---- a token in time ----> in ---- shortly before its end: told ----+
|                                ^                                       |
| none in time, or a bad one     +---- a fresh one of the same owner ----+
v                                                                        v
closed, 4408 or 4401                            closed after a grace, 4401; answers go on
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
from server.api.close_codes import CloseCode
from server.api.problem import Problem
from server.api.refusals import from_error
from server.api.request import Auth, parse_message

if TYPE_CHECKING:
    from server.config import AuthConfig
    from server.http.auth_middleware import Authenticator

    from .limits import SocketLimiter

TELL_SECONDS: Final = 30.0  # before the end of a token
LOOK_SECONDS: Final = 3.0  # how often a key is looked up again, for it may have been revoked
IDLE_SECONDS: Final = 3600.0


class Connection(Protocol):
    """The part of a socket that authentication uses."""

    def say(self, message: dict[str, Any]) -> None:
        """Writes a message."""

    async def close(self, code: CloseCode, reason: str) -> None:
        """Closes the socket."""


async def heard(changed: asyncio.Event, seconds: float) -> bool:
    """Whether somebody has shown something that counts, within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        return False
    return True


class SocketAuth:
    """The authentication of one socket. `watch` runs as long as the socket does."""

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
        """`who` has shown `credential` already; with no `who` the credential is still unread, or
        there is none and the first message has to bring it. `address` is the client's.
        """
        self._limiter = limiter
        self._tenant: str | None = None
        self.limits = limiter.usual
        self._authenticator = authenticator
        self._settings = settings
        self._who = who
        self._address = address
        self._credential = credential
        self._changed: asyncio.Event | None = None  # where somebody watches
        self._connection: Connection | None = None

    @property
    def who(self) -> Principal:
        """Who it is. Raises: Problem while nobody knows."""
        if self._who is None:
            raise principal.missing()
        return self._who

    @property
    def unauthenticated(self) -> bool:
        """Whether a first message has still to say who it is."""
        return self._who is None

    async def reserve(self) -> None:
        """Counts the socket for its tenant, if known; `release` ends it. Raises: Problem."""
        if self._who is not None:
            await self._reserve(self._who)

    async def _reserve(self, who: Principal) -> None:
        tenant = tenant_of(who.owner)
        self.limits = await self._limiter.take(tenant)
        self._tenant = tenant

    def release(self) -> None:
        """The socket is over."""
        self._connection = None  # it holds this object
        if self._tenant is not None:
            self._limiter.release(self._tenant)

    def check(self, kind: type) -> None:
        """Raises Problem for a message that may not be sent by whoever this is, or not any more."""
        if self.who.ended(time.time() - LEEWAY_SECONDS):
            raise principal.refused()
        self.who.check(OF_MESSAGES.get(kind, principal.ANYTHING))

    async def enter(self, connection: Connection) -> None:
        """The socket is open: judges what came with the upgrade and was not judged before."""
        self._connection = connection
        if self.unauthenticated and self._credential is not None:
            await self._show(self._credential)

    async def authenticate(self, body: dict[str, Any]) -> None:
        """Takes a `holdline:auth`. Where everybody comes in, it has no effect.

        Raises: Problem for one that is not formed like one.
        """
        message = parse_message(body)
        if not self._authenticator.open and isinstance(message, Auth):
            await self._show(message.token)

    async def reject(self, problem: Problem) -> None:
        """Says why, and closes."""
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
                self._connection.say(problem.event())  # what it has shown before still counts
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
        """Closes the socket when its time has come: returns after that, or never."""
        if self._authenticator.open:
            return
        self._changed = changed = asyncio.Event()
        if self.unauthenticated and not await heard(changed, self._settings.auth_seconds):
            assert self._connection is not None  # noqa: S101 - `enter` comes first
            await self._connection.close(CloseCode.SILENT, "no holdline:auth in time")
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
        """Whether a key still counts, and what it may do now. A token counts until its end."""
        if who.key_id is None:
            return True
        try:
            found = await self._authenticator.authenticated(self._credential, self._address)
            if self._who is who:
                self._who = found
        except Problem:
            return False
        except HoldlineError:
            return True  # Redis is away, and nobody can have revoked it there
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
