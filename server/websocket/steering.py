"""Submits the steers of one socket, and reports their outcomes.

The events of steers are not entries of a response's log. Their `sequence_number` is the number of
the last event of the response that the socket has sent, so a client that stores the latest number
as its cursor resumes at the right event.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Protocol

from jobs.errors import HoldlineError, RedisTrouble
from server.api.client_messages import STEER, message_traceparent
from server.api.problem import Problem
from server.api.refusals import from_error
from server.request_log import note
from server.steers import SteerRefused, accepted, failed

from .session import MAX_FOLLOWED

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from server.access.principal import Principal
    from server.api.frames import Frame
    from server.live.follower import Follower
    from server.live.relay import Relay
    from server.request_log import RequestLog, RequestRecord
    from server.steers import SteerService

# The number of the last event of a response that a socket has sent, and the response's lane there.
Place = tuple[int, str | None]
NOWHERE: Final[Place] = (-1, None)
RETRY_SECONDS: Final = 1.0
# The codes of errors for a response that exists, but whose latest events Redis has lost.
EVENTS_LOST: Final = frozenset({"response_rolled_back", "starting_after_beyond_end"})


class SteeringSocket(Protocol):
    """The members of `Socket` that `Steering` uses."""

    def say(self, message: dict[str, Any]) -> None:
        """Writes a message that is not part of a log."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Starts a task that ends with the socket."""

    def place_of(self, response_id: str) -> Place | None:
        """Returns the last number and the lane of a response that the socket follows, else None."""


class Steering:
    """The steers of one socket whose outcome is not known yet."""

    def __init__(
        self, socket: SteeringSocket, relay: Relay, steers: SteerService, requests: RequestLog
    ) -> None:
        self._socket = socket
        self._requests = requests
        self._relay = relay
        self._steers = steers
        # Steers are stored in the order in which the client sent them.
        self._order = asyncio.Lock()
        # The fingerprints of each response's steers, by number.
        self._waiting: dict[str, dict[int, str]] = {}
        self._watches: dict[str, Follower] = {}

    async def submit(self, who: Principal, body: dict[str, Any]) -> None:
        """Stores a steer and acknowledges it, or gives its input back."""
        parent = message_traceparent(body.get("client_metadata"))
        with self._requests.record(STEER, parent, who) as record:
            await self._submit(who, body, record)

    async def _submit(self, who: Principal, body: dict[str, Any], record: RequestRecord) -> None:
        async with self._order:
            target, given = body.get("previous_response_id"), body.get("input")
            response_id = target if isinstance(target, str) else ""
            try:
                self._check_room(response_id)
                added = await self._steers.add(who, body)
            except SteerRefused as error:
                record.status, record.code = 400, error.code
                back = given if isinstance(given, str | list) else []
                self._say(failed(error.code, error.message, back, response_id[:128]), response_id)
                return
            except HoldlineError as error:
                # The steer may have been stored. If the client sends it again with its idempotency
                # key, the reply shows whether it was.
                record.refused(problem := from_error(error))
                self._socket.say(problem.event(response_id=response_id))
                return
            note(response_id=response_id)
            record.status = 200
            self._say(accepted(added), response_id)
            if added.fresh:
                await self._steers.notify(response_id)
        self._wait(response_id, who.owner, {added.number: added.fingerprint}, added.length - 1)

    def _wait(self, response_id: str, owner: str, steers: dict[int, str], after: int) -> None:
        """Waits for the end of a response, to report the outcomes of these steers."""
        self._waiting[response_id] = self._waiting.get(response_id, {}) | steers
        if self._socket.place_of(response_id) is None and response_id not in self._watches:
            # This socket does not follow the response, but has to report the outcome at its end.
            watch = _Watch(self, owner)
            self._watches[response_id] = self._relay.follow(response_id, owner, after, watch)

    def _check_room(self, response_id: str) -> None:
        if len(self._waiting) >= MAX_FOLLOWED and response_id not in self._waiting:
            raise SteerRefused(
                "too_many_pending_steers",
                f"One socket may steer at most {MAX_FOLLOWED} responses at a time. Wait until one "
                "of them ends.",
            )

    def ended(self, response_id: str, owner: str, place: Place) -> None:
        """Reports the outcomes of a response's steers, after its last event or a rollback."""
        if (steers := self._waiting.pop(response_id, None)) is not None:
            self._socket.spawn(self._report(response_id, owner, steers, place))

    def watch_ended(self, response_id: str, owner: str, problem: Problem | None) -> None:
        """Reports the outcomes of the steers of a response that the socket does not follow.

        `problem` is set if the response was deleted or lost together with its steers, or if Redis
        lost only events of it.
        """
        self._watches.pop(response_id, None)
        if self._socket.place_of(response_id) is not None:
            # The socket has begun to follow the response, so its own follower reports the end.
            return
        if problem is None or problem.code in EVENTS_LOST:
            self.ended(response_id, owner, NOWHERE)
        else:
            self._waiting.pop(response_id, None)
            self._socket.say(problem.event(response_id=response_id))

    def leave(self) -> None:
        """Ends all watches when the socket ends."""
        for follower in self._watches.values():
            follower.leave()
        self._watches.clear()

    async def _report(
        self, response_id: str, owner: str, steers: dict[int, str], place: Place
    ) -> None:
        while True:
            try:
                events, waiting = await self._steers.outcome(owner, response_id, steers)
            except RedisTrouble:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            except HoldlineError:
                # The response was deleted. The client has received an `error` event, or receives
                # one when it sends the steer again.
                return
            for event in events:
                self._say(event, response_id, place)
            if waiting:
                # Redis lost events of the response, maybe its last ones, so it has not ended yet.
                self._wait(response_id, owner, waiting, -1)
            return

    def _say(
        self,
        event: dict[str, Any],
        response_id: str,
        place: Place | None = None,
    ) -> None:
        number, lane = place or self._socket.place_of(response_id) or NOWHERE
        on_lane = {} if lane is None else {"stream_id": lane}
        self._socket.say({**event, "sequence_number": number, **on_lane})


class _Watch:
    """A `Sink` that only waits for the end of a response."""

    writable = True

    def __init__(self, steering: Steering, owner: str) -> None:
        self._steering = steering
        self._owner = owner

    def deliver(self, follower: Follower, frames: list[Frame]) -> None:
        """Drops the events, because the client does not follow the response."""

    def queued(self, follower: Follower, place: int | None, eta: float | None, reason: str) -> None:
        """Drops the queue position."""

    def ended(self, follower: Follower, problem: Problem | None) -> None:
        """Reports the outcomes of the steers."""
        self._steering.watch_ended(follower.response_id, self._owner, problem)
