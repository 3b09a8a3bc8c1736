"""Tracks a socket's finished answers: keeps unstored ones, and confirms arrival with pings."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Protocol

from jobs.errors import HoldlineError
from server.api.context import Context, void_calls

from .unstored import PingAcks, UnstoredTurns

if TYPE_CHECKING:
    from server.responses import Responses

    from .unstored import ByteLimiter


class Connection(Protocol):
    """The members of `Socket` that `Delivery` uses."""

    @property
    def owner(self) -> str:
        """The owner whose answers the socket remembers.

        An administrator can also see the answers of other owners, but cannot continue from them.
        """

    def ping(self, payload: bytes) -> None:
        """Sends a WebSocket ping with this payload."""


class Delivery:
    """Tracks the answers that one socket has delivered completely."""

    __slots__ = ("_connection", "_keeping", "_ping_acks", "_responses", "_turns")

    def __init__(
        self, connection: Connection, responses: Responses, byte_limiter: ByteLimiter
    ) -> None:
        self._connection = connection
        self._responses = responses
        self._turns = UnstoredTurns(byte_limiter)
        self._ping_acks = PingAcks()
        self._keeping: dict[str, asyncio.Event] = {}

    async def before(self, previous_id: str | None) -> Context | None:
        """Returns the context up to the end of an answer that this socket remembers, or None."""
        if previous_id is not None and (keeping := self._keeping.get(previous_id)) is not None:
            await keeping.wait()
        return self._turns.recall(previous_id)

    def refused(self, lane: str | None, previous_id: str | None) -> None:
        """Handles the refusal of a turn on this lane that tried to continue from this answer."""
        self._turns.forget(lane, previous_id)

    def announce(self, response_id: str) -> None:
        """Announces a later call to `keep`. Until that call has finished, `before` waits."""
        self._keeping[response_id] = asyncio.Event()

    async def keep(self, lane: str | None, response: dict[str, Any]) -> None:
        """Remembers an unstored answer, and sends a ping to check that the client received it."""
        id_: str = response["id"]
        try:
            if response["status"] == "failed":
                self._turns.forget(lane, response["previous_response_id"])
            before = await self._responses.asked(self._connection.owner, id_)
            context = Context([*before, *response["output"]], void_calls=void_calls(response))
            self._turns.keep(lane, id_, context)
        except HoldlineError:
            # If the answer is not kept, a turn that continues from it is refused as not found.
            pass
        finally:
            self._keeping.pop(id_).set()
        self.ask(id_)

    def ask(self, response_id: str) -> None:
        """Sends a ping to check that the client has received the whole response."""
        self._connection.ping(self._ping_acks.ask(response_id))

    def pong(self, payload: bytes) -> list[str]:
        """Returns the responses that a pong confirms; the caller must call `seen` for each."""
        return self._ping_acks.pong(payload)

    async def seen(self, response_id: str) -> None:
        """Records in Redis that the client has received the whole response."""
        # After an error, the response is kept for the full retention time.
        with contextlib.suppress(HoldlineError):
            await self._responses.seen(response_id)

    def leave(self) -> None:
        """Forgets all answers when the socket ends."""
        del self._connection  # breaks a reference cycle: the connection refers to this object
        self._turns.clear()
