"""Accepts steers, and reports their outcomes."""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from jobs.errors import Limited, RedisTrouble, UnknownResponse
from jobs.ids import steer_id
from jobs.owed import owed
from jobs.record import Status
from jobs.steers import (
    MAX_STEERS,
    PENDING,
    Steer,
    SteeringEnded,
    SteerKeyReused,
    Steers,
    TooManySteers,
)
from jobs.summary import only_compacts

from . import capabilities
from .api.client_messages import ResponseSteer, SteerMessage, parse_message
from .api.frames import fingerprint
from .api.items import Message, stored
from .api.problem import Problem
from .api.refusals import from_error
from .api.request import Create

if TYPE_CHECKING:
    from jobs.config.models import Catalog
    from jobs.queue import Queue

    from .access.principal import Principal
    from .conversation import Conversations

Event = dict[str, Any]

# The ids of the messages depend on the successor, so they are set later, by `jobs.steers.input_of`.
_NO_ID: Final = ""


class SteerRefused(Exception):
    """A steer was not accepted.

    `code` is an error code of the standard's `response.steer.failed`, or one of Holdline's codes.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Added(NamedTuple):
    """An accepted steer: its response, its number, and the length of the response's log before it.

    `fingerprint` identifies its input. `successor` is the id of the response that contains the
    steer, `PENDING`, or "" if the steer is new or has no successor. `fresh` is False if an earlier
    request has stored the steer.
    """

    response_id: str
    number: int
    fingerprint: str
    length: int
    successor: str
    fresh: bool


class Outcome(NamedTuple):
    """The outcomes of steers: the events that report them, and the steers without an outcome yet.

    `waiting` contains the fingerprint of each of these steers by its number.
    """

    events: list[Event]
    waiting: dict[int, str]


class SteerService:
    """Operations on steers. After a HoldlineError, a steer may or may not have been stored."""

    def __init__(
        self,
        queue: Queue,
        conversations: Conversations,
        catalog: Catalog,
        max_context_bytes: int,
        max_bytes: int,
    ) -> None:
        """`max_bytes` is the limit for all steers of one response."""
        self._queue = queue
        self._conversations = conversations
        self._catalog = catalog
        self._max_context_bytes = max_context_bytes
        self._max_bytes = max_bytes

    async def add(self, who: Principal, body: Event) -> Added:
        """Stores a steer, or finds the steer with the same idempotency key.

        Raises: SteerRefused, RedisTrouble, NotReplicated.
        """
        try:
            message = parse_message(body)
        except Problem as problem:
            raise SteerRefused("invalid_input", problem.message) from None
        assert isinstance(message, ResponseSteer)  # noqa: S101 - the caller has checked the type
        response_id, steers = message.previous_response_id, self._queue.steers
        try:
            view = await self._conversations.head(who.owner, response_id)
            job = await self._conversations.job(who.owner, response_id)
            compacts = job.params.get("context_management") or only_compacts(job.params)
            if job.conversation or compacts:
                raise SteerRefused(
                    "steering_not_supported",
                    "A response that belongs to a conversation, or that compacts its context, "
                    "cannot be steered. Wait for its end, and send the input with response.create.",
                )
            items = _messages(message)
            capabilities.check(self._catalog, Create(input=[*items]), job.params, who)
            own = message.holdline and message.holdline.idempotency_key
            print_ = _fingerprint(body["input"])
            number, fresh = await steers.add(
                response_id,
                Steer(body["input"], stored([*items], lambda *_: _NO_ID), self._max_context_bytes),
                key=own or secrets.token_hex(16),
                fingerprint=print_,
                max_bytes=self._max_bytes,
            )
            await self._queue.replicated(response_id)
            successor = "" if fresh else (await steers.read(response_id)).successor
            return Added(response_id, number, print_, view.length, successor, fresh)
        except UnknownResponse:
            raise SteerRefused(
                "response_not_found", f"Response with id '{response_id[:64]}' not found."
            ) from None
        except SteeringEnded as error:
            raise await self._ended(response_id, error.status) from None
        except TooManySteers:
            raise SteerRefused(
                "too_many_pending_steers",
                f"One response may have at most {MAX_STEERS} steers, with at most "
                f"{self._max_bytes} bytes together. Wait until the successor of this response "
                "begins, and steer that response.",
            ) from None
        except SteerKeyReused:
            raise SteerRefused(
                "idempotency_key_reused",
                "This idempotency key belongs to a steer with another input. Use a new key.",
            ) from None
        except Limited as error:
            refusal = from_error(error)
            raise SteerRefused(refusal.standard_code, refusal.message) from None
        except Problem as problem:
            raise SteerRefused("invalid_input", problem.message) from None

    async def before(self, owner: str, previous_id: str | None) -> Steers | None:
        """Returns the steers of a previous response if they are committed or pending, else None."""
        if previous_id is None:
            return None
        try:
            found = await self._queue.steers.read(previous_id, owner)
        except UnknownResponse:
            return None
        return found if found.successor else None

    async def _ended(self, response_id: str, status: Status) -> SteerRefused:
        found = await self._queue.steers.read(response_id)
        if found.successor not in ("", PENDING):
            advice = f"Its successor is '{found.successor}'."
        else:
            advice = "Continue from it with response.create and 'previous_response_id'."
        if status is Status.COMPLETED:
            return SteerRefused(
                "response_already_completed", f"The response has already completed. {advice}"
            )
        return SteerRefused("response_not_active", f"The response accepts no more steers. {advice}")

    async def notify(self, response_id: str) -> None:
        """Notifies the response's worker after a new steer was acknowledged."""
        # If the notification fails, the worker finds the steer when it renews its lease.
        with contextlib.suppress(RedisTrouble):
            await self._queue.steers.notify(response_id)

    async def outcome(self, owner: str, response_id: str, told: dict[int, str]) -> Outcome:
        """Returns the outcomes of accepted steers, given as fingerprints by number.

        Redis can lose a steer, and then use its number again for another one, when a replica that
        lacks the steer becomes the master. There is no event for a committed steer, because the
        `response.created` of the successor reports it.

        Raises: UnknownResponse, Undecodable, RedisTrouble.
        """
        found = await self._queue.steers.read(response_id, owner)
        stored = {n: steer for n, steer in enumerate(found.steers) if n in told}
        kept = {n: told[n] for n, one in stored.items() if _fingerprint(one.given) == told[n]}
        events = [_lost(response_id, number) for number in told if number not in kept]
        if not found.status.ended:
            return Outcome(events, kept)
        if found.successor == PENDING and kept:
            _, response = await self._conversations.response(owner, response_id)
            stubs = owed(response["output"])
            events += [_pending(response_id, number, stubs) for number in kept]
        elif not found.successor:
            code = _code(found.status)
            events += [failed(code, _GIVEN_BACK, stored[n].given, response_id, n) for n in kept]
        return Outcome(events, {})


_GIVEN_BACK: Final = (
    "The response has ended without a successor, so its steers were not applied. Send their input "
    "with response.create."
)


def _code(status: Status) -> str:
    ended_well = status in (Status.COMPLETED, Status.INCOMPLETE)
    return "successor_creation_failed" if ended_well else "response_not_active"


def _fingerprint(given: Any) -> str:
    return fingerprint({"input": given})


def _lost(response_id: str, number: int) -> Event:
    problem = Problem(
        410,
        "steer_lost",
        f"The server's storage lost the steer '{steer_id(response_id, number)}' after it was "
        "accepted. Send its input again.",
    )
    return problem.event(response_id=response_id)


def _messages(message: ResponseSteer) -> list[Message]:
    given = message.input
    messages = [SteerMessage("user", given)] if isinstance(given, str) else given
    contents = (one.content for one in messages)
    return [Message("user", one if isinstance(one, str) else [*one]) for one in contents]


def accepted(added: Added) -> Event:
    """Returns the event that acknowledges a steer, with the id of the successor if it is known."""
    event = {"type": "response.steer.accepted", "steer": _named(added.response_id, added.number)}
    if added.successor not in ("", PENDING):
        event["holdline"] = {"successor_id": added.successor}
    return event


def _pending(response_id: str, number: int, stubs: list[Event]) -> Event:
    return {
        "type": "response.steer.pending",
        "reason": "waiting_for_required_input",
        "required_input": stubs,
        "steer": _named(response_id, number),
    }


def failed(
    code: str, message: str, given: Any, response_id: str, number: int | None = None
) -> Event:
    """Returns the event that gives the input of a steer back.

    `number` is the number of the steer in its response, or None if it was not stored.
    """
    steer: Event = {"previous_response_id": response_id, "input": given}
    if number is not None:
        steer["id"] = steer_id(response_id, number)
    error = {"type": "invalid_request_error", "code": code, "message": message}
    return {"type": "response.steer.failed", "error": error, "steer": steer}


def _named(response_id: str, number: int) -> Event:
    return {"id": steer_id(response_id, number), "previous_response_id": response_id}
