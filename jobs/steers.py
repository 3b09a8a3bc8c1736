"""Stores the steers of a response: input that a client adds before the response has ended.

Redis keeps the steers of a response in a hash beside its log. A steer is stored before it is
acknowledged, and a response that has ended accepts no steers. The script that ends the response
also decides the outcome of its steers:

    committed   another response, the successor, was queued with their input
    pending     the response ended with calls whose results the client owes; the request that sends
                these results also gets the input of the steers
    given back  the response ended in any other way

So each steer has exactly one outcome, which can be read at any later time.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .errors import Limited, RedisRefused, UnknownResponse
from .ids import item_id
from .log.codec import kept_fingerprints, kept_steer, steer_of
from .names import names_of
from .record import Status
from .scripts import calls

if TYPE_CHECKING:
    from .record import SharedSettings
    from .redis.pipe import Pipe

Item = dict[str, Any]

PENDING: Final = "pending"  # the field `successor` of a job whose steers are pending
MAX_STEERS: Final = 32  # maximum number of steers of one response


@dataclass(frozen=True, slots=True)
class Steer:
    """One steer of a response.

    `given` is the input as the client sent it, and `items` are the same messages in their stored
    form. `max_context_bytes` is the size limit of a prompt with its context.
    """

    given: Any
    items: list[Item]
    max_context_bytes: int


@dataclass(frozen=True, slots=True)
class Steers:
    """The steers of one response, and their outcome.

    `successor` is the id of the response that contains the steers, or `PENDING`. It is empty if the
    response has not ended, or if its steers were given back.
    """

    status: Status
    successor: str
    steers: list[Steer]


class SteeringEnded(Exception):
    """The response accepts no more steers, because it has ended or is being cancelled."""

    def __init__(self, status: Status) -> None:
        super().__init__(status)
        self.status = status


class TooManySteers(Exception):
    """The response has reached its maximum number or bytes of steers."""


class SteerKeyReused(Exception):
    """The idempotency key belongs to a steer with another input."""


class SteerLog:
    """Stores and reads the steers of responses. All methods raise RedisTrouble."""

    def __init__(self, pipe: Pipe, settings: SharedSettings) -> None:
        self._pipe = pipe
        self._settings = settings

    async def add(
        self, response_id: str, steer: Steer, *, key: str, fingerprint: str, max_bytes: int
    ) -> tuple[int, bool]:
        """Stores a steer, unless a steer with the same key was stored before.

        Returns the number of the steer, and True if this call has stored it. The caller should then
        call `notify`.

        `max_bytes` is the limit for all steers of the response together. The first steer counts as
        one request of the tenant.

        Raises: UnknownResponse, SteeringEnded, TooManySteers, SteerKeyReused, Limited.
        """
        names, settings = names_of(response_id), self._settings
        reply = await self._pipe.run(
            calls.steer(
                job_key=names.job(response_id),
                steers_key=names.steers(response_id),
                prefix=names.prefix,
                key=hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32],
                fingerprints=kept_fingerprints(fingerprint, self._pipe.cipher),
                entry=kept_steer(
                    response_id,
                    [steer.given, steer.items, steer.max_context_bytes],
                    self._pipe.cipher,
                ),
                most=MAX_STEERS,
                most_bytes=max_bytes,
                **settings.limit_arguments,
            )
        )
        match reply:
            case [b"accepted" | b"same" as word, int(number)]:
                return number, word == b"accepted"
            case [b"reused", _]:
                raise SteerKeyReused
            case [b"gone"]:
                raise UnknownResponse(response_id)
            case [b"ended", bytes(status)]:
                raise SteeringEnded(Status(status.decode()))
            case [b"full"]:
                raise TooManySteers
            case [b"limited", bytes(what), bytes(limit), int(wait)]:
                raise Limited(what.decode(), float(limit), wait / 1000)
            case _:
                raise RedisRefused("the `steer` script returned an unexpected reply")

    async def notify(self, response_id: str) -> None:
        """Notifies the worker that runs the response of a new steer.

        Without the notification, the worker learns of the steer when it renews its lease.
        """
        await self._pipe.call("SPUBLISH", names_of(response_id).cancels, response_id)

    async def read(self, response_id: str, viewer: str = "") -> Steers:
        """Returns the steers of a response. An empty viewer may see every response.

        Raises: UnknownResponse, Undecodable.
        """
        names = names_of(response_id)
        reply = await self._pipe.run(
            calls.read_steers(
                job_key=names.job(response_id),
                steers_key=names.steers(response_id),
                viewer=viewer,
            )
        )
        if not reply:
            raise UnknownResponse(response_id)
        status, successor, kept = reply
        cipher = self._pipe.cipher
        return Steers(
            Status(status.decode()),
            successor.decode(),
            [Steer(*steer_of(response_id, one, cipher)) for one in kept],
        )


def input_of(steers: list[Steer], response_id: str) -> list[Item]:
    """Returns the messages of steers as input items of the response with this id."""
    items = [item for steer in steers for item in steer.items]
    return [
        {**item, "id": item_id("msg", response_id, 0, index)} for index, item in enumerate(items)
    ]
