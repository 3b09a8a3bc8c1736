"""After the last event: what one socket remembers of an answer, and whether its client has it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Protocol

from jobs.errors import HoldlineError

from .unstored import PingAcks, UnstoredTurns

if TYPE_CHECKING:
    from server.responses import Responses

    from .unstored import ByteLimiter, Items


class Connection(Protocol):
    """The part of a socket that deliveries use."""

    @property
    def owner(self) -> str:
        """Whose answers are remembered: an administrator sees those of others too, and goes on
        from none of them.
        """

    def ping(self, payload: bytes) -> None:
        """Sends a ping."""


class Delivery:
    """The answers that one socket has brought to their end."""

    __slots__ = ("_connection", "_keeping", "_ping_acks", "_responses", "_turns")

    def __init__(
        self, connection: Connection, responses: Responses, byte_limiter: ByteLimiter
    ) -> None:
        self._connection = connection
        self._responses = responses
        self._turns = UnstoredTurns(byte_limiter)
        self._ping_acks = PingAcks()
        self._keeping: dict[str, asyncio.Event] = {}

    async def before(self, previous_id: str | None) -> Items | None:
        """What was said up to the end of an answer that this socket remembers, or None."""
        if previous_id is not None and (keeping := self._keeping.get(previous_id)) is not None:
            await keeping.wait()
        return self._turns.recall(previous_id)

    def refused(self, lane: str | None, previous_id: str | None) -> None:
        """A turn of the lane that names this answer was refused."""
        self._turns.forget(lane, previous_id)

    def announce(self, response_id: str) -> None:
        """`keep` is about to be called; until it is done, `before` waits."""
        self._keeping[response_id] = asyncio.Event()

    async def keep(self, lane: str | None, response: dict[str, Any]) -> None:
        """Remembers an answer that is not stored, and asks whether the client has it."""
        id_: str = response["id"]
        try:
            if response["status"] == "failed":
                self._turns.forget(lane, response["previous_response_id"])
            before = await self._responses.asked(self._connection.owner, id_)
            self._turns.keep(lane, id_, [*before, *response["output"]])
        except HoldlineError:
            pass  # whoever goes on from it is told that it is not to be found
        finally:
            self._keeping.pop(id_).set()
        self.ask(id_)

    def ask(self, response_id: str) -> None:
        """Asks whether the client has all of a response that was written to it."""
        self._connection.ping(self._ping_acks.ask(response_id))

    def pong(self, payload: bytes) -> list[str]:
        """The responses that the client is now known to have; call `seen` for each."""
        return self._ping_acks.pong(payload)

    async def seen(self, response_id: str) -> None:
        """Takes note of it in Redis."""
        with contextlib.suppress(HoldlineError):  # then it is kept for the retention
            await self._responses.seen(response_id)

    def leave(self) -> None:
        """The socket is over, and what it remembers is forgotten."""
        del self._connection  # it holds this object
        self._turns.clear()
