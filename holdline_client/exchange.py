"""Handles one exchange, from the prompt to the verified answer, over any number of sockets.

If the socket is lost before the server has named the response, the client sends the request again.
Its idempotency key makes the server return the same response. If the socket is lost later, the
client resumes after the last sequence number. Neither case causes a second model call.

    event                           message sent              then the exchange waits for
    socket opened, no response id   the request with its key  an id; the request is repeated after
                                                              `ACCEPT_SECONDS`
    socket opened, id known         a resume after the last   events
                                    event
    an event is missing             a resume, once for each   events
                                    position
    temporary refusal               none                      a delay, then sends again
    log rolled back in Redis        none                      a delay, then resumes after -1
    wrong checksum                  a resume after -1, once   the whole log again

An exchange does no I/O. The client sends the returned messages in order, and calls `tick` at the
time `due`. Times are in seconds.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

from . import protocol
from .backoff import delay
from .errors import ChecksumMismatch, Error, Failed, OutcomeUnknown, Refused
from .response_state import Outcome, ResponseState

if TYPE_CHECKING:
    from collections.abc import Callable

    from .protocol import Message

# If the server does not answer a request within this time, the client sends the request again, up
# to this number of times in total.
ACCEPT_SECONDS: Final = 30.0
ACCEPT_TRIES: Final = 3

# A request may be sent again only within this time after it was first sent. The server deletes an
# idempotency key together with the response, by default after an hour. If the request were sent
# again after that, it would cause a second model call.
RESEND_SECONDS: Final = 1800.0

# The maximum numbers of consecutive temporary refusals (status 429 or 5xx, or too many lanes)
# before the exchange fails. A request that was not accepted fails early, because the user can send
# it again. An accepted answer is worth a longer wait.
BUSY_TRIES: Final = 6
BUSY_TRIES_ACCEPTED: Final = 200


class Renew:
    """Tells the client to replace a socket that does not deliver the requested events."""


class Exchange:
    """Decides which messages to send for one answer, and handles the events that arrive for it."""

    def __init__(
        self,
        state: ResponseState,
        *,
        request: Message | None = None,
        key: str = "",
        jitter: Callable[[], float],
    ) -> None:
        self.lane = secrets.token_hex(16)
        self.key = key
        self.state = state
        self.busy = False
        self.verified: bool | None = None
        self.error: Error | None = None
        self.settled = False
        self.due: float | None = None
        self._request = request
        # A resumed answer is padded like the first part of the answer.
        options = (request or {}).get("stream_options") or {}
        padded = options.get("include_obfuscation") is True
        self._options = {"include_obfuscation": True} if padded else {}
        self._jitter = jitter
        self._open = False
        self._stopping = False
        self._limit: int | None = None
        self._sent_at: float | None = None
        self._sendings = 0
        self._refusals = 0
        self._asked_after: int | None = None
        self._holed = False
        # The state that is built when the log is fetched once more after a wrong checksum.
        self._again: ResponseState | None = None

    @property
    def accepted(self) -> bool:
        """True if the server has accepted the request and sent the id of the response."""
        return self.state.response_id is not None

    @property
    def _reading(self) -> ResponseState:
        return self._again or self.state

    # Methods that handle events of the socket, the timer and the caller

    def opened(self, now: float, message_bytes: int | None = None) -> list[Message]:
        """Handles a newly opened socket.

        The server accepts messages of up to `message_bytes`.
        """
        if self.settled:
            return []
        self._open, self._limit = True, message_bytes
        if not self.accepted:
            return self._create(now)
        return [*self._resume(), *self._cancel_if_wanted()]

    def lost(self) -> None:
        """Handles the loss of the socket and of the requests that were sent on it."""
        self._open = self._holed = False
        self._asked_after, self._sendings = None, 0
        if self.settled:
            return
        waits = self._sent_at is not None and not self.accepted
        self.due = (self._sent_at or 0.0) + RESEND_SECONDS if waits else None

    def tick(self, now: float) -> list[Message]:
        """Returns the messages to send after the deadline `due` has passed."""
        if self.settled or self.due is None or now < self.due:
            return []
        self.due = None
        if self._open:
            return self.opened(now, self._limit)
        self._outcome_unknown()
        return []

    def stop(self) -> list[Message]:
        """Cancels the answer for the caller.

        If the request was never sent, the answer ends as cancelled at once.
        """
        if self.settled or self._stopping:
            return []
        self._stopping = True
        if not self.accepted and self._sent_at is None:
            self.state.withdraw()
            self._settle()
        return self._cancel_if_wanted() if self._open else []

    def received(self, event: Message, now: float) -> list[Message] | Renew:
        """Handles an event that the server sent for this answer."""
        if self.settled:
            return []
        if event["type"] == "error":
            return self._refused(event, now)
        if event["type"] == "holdline:ended":
            # The response has ended, and the client has already received its last event. A resume
            # from one event earlier makes the server send the last event again.
            self._reading.step_back()
            return self._resume()
        known = self.accepted
        try:
            outcome = self._reading.apply(event)
        except (LookupError, TypeError, AttributeError, ValueError):
            self.fail(
                Failed("malformed_event", f"The server sent an invalid {event['type']} event.")
            )
            return []
        sends = [] if known or not self.accepted else self._now_accepted()
        if outcome is Outcome.GAP:
            self._holed = True
            again = self._asked_after != self._reading.last
            return sends + (self._resume() if again else [])
        if outcome is Outcome.APPLIED:
            self._holed = self.busy = False
            self._refusals = 0
            if self._reading.ended:
                return sends + self._verify()
        return sends

    def heard(self, last: int | None) -> list[Message] | Renew:
        """Handles a pong, which names the last event that the server has sent on this socket.

        `last` is the sequence number of that event, or None if the socket does not follow the
        response.
        """
        if self.settled or not self.accepted or self.busy:
            return []
        if last is not None and last <= self._reading.last:
            return []
        # If the missing event was requested before and has still not arrived, this socket will not
        # deliver it.
        return Renew() if self._asked_after == self._reading.last else self._resume()

    def fail(self, error: Error) -> None:
        """Ends the exchange with an error that is not in the log of the response."""
        if self.settled:
            return
        self.state.fail()
        # If the second fetch after a wrong checksum fails, the caller gets the first text together
        # with an error that names the wrong checksum.
        self.error = error if self._again is None else _checksum_mismatch()
        self._settle()

    # Methods that decide on messages to send

    def _create(self, now: float) -> list[Message]:
        if self._sent_at is not None and now - self._sent_at >= RESEND_SECONDS:
            self._outcome_unknown()
        elif self._sendings == ACCEPT_TRIES:
            self.fail(Refused("not_accepted", "The server did not accept the request."))
        if self.settled or self._request is None:
            return []
        message = protocol.create(self._request, self.lane, self.key)
        size = len(protocol.encode(message).encode("utf-8", "surrogatepass"))
        if self._limit is not None and size > self._limit:
            # The server would close the socket after a message that is too large, and all other
            # answers share this socket.
            self.fail(
                Refused("too_large", f"The request has more than {self._limit} bytes.", status=413)
            )
            return []
        self._sent_at = now if self._sent_at is None else self._sent_at
        self._sendings += 1
        self.due = now + ACCEPT_SECONDS
        return [message]

    def _resume(self) -> list[Message]:
        if self.state.response_id is None or not self._open:
            return []
        reading = self._reading
        self._asked_after = reading.last
        shown = {**reading.shown, **self._options}
        return [protocol.resume(self.state.response_id, reading.last, shown, self.lane)]

    def _cancel_if_wanted(self) -> list[Message]:
        if not self._stopping or self.state.response_id is None:
            return []
        return [protocol.cancel(self.state.response_id)]

    def _now_accepted(self) -> list[Message]:
        self.due = None
        self._refusals = 0
        return self._cancel_if_wanted()

    def _outcome_unknown(self) -> None:
        self.fail(
            OutcomeUnknown(
                "outcome_unknown",
                "The request was sent, but the connection was lost before its outcome was known.",
            )
        )

    def _refused(self, event: Message, now: float) -> list[Message] | Renew:
        error, status = _read_error(event)
        if self.accepted and status == 409:
            # A status of 409 means that the socket follows the response already, or that the
            # response ended before it could be cancelled. If events are missing on this socket, the
            # server will not send them on it again, so the socket is replaced.
            return Renew() if self._holed else []
        rolled_back = _code_of(error) == "response_rolled_back"
        full = _code_of(error) == "websocket_stream_limit_reached"
        momentary = rolled_back or full or status == 429 or status >= 500
        tries = BUSY_TRIES_ACCEPTED if self.accepted else BUSY_TRIES
        if not momentary or self._refusals >= tries:
            kind = Failed if self.accepted else Refused
            code = _code_of(error)
            message = str(error.get("message") or "The server refused the request.")
            self.fail(kind(code, message, status=status, param=error.get("param")))
            return []
        if rolled_back:
            self._start_over()
        self._refusals += 1
        self.busy = True
        self._sendings = 0
        self.due = now + delay(self._refusals, self._jitter(), _retry_after(error))
        return []

    def _start_over(self) -> None:
        if self._again is None:
            self.state = self.state.start_over()
        else:
            self._again = ResponseState(self.state.response_id)

    def _verify(self) -> list[Message]:
        """Compares the checksum with the text. If they differ, the log is fetched once more."""
        failed = self._reading.status == "failed"
        self.verified = None if failed else self._reading.verified()
        if self.verified is False and self._again is None and self._open:
            self._again = ResponseState(self.state.response_id)
            return self._resume()
        if self._again is not None and self.verified is not False:
            self._again.take_over(self.state)
            self.state = self._again
        if failed:
            self.error = _failure(self.state.response or {})
        elif self.verified is False:
            self.error = _checksum_mismatch()
        self._settle()
        return []

    def _settle(self) -> None:
        self.settled = True
        self.busy = False
        self.due = None


def _read_error(event: Message) -> tuple[dict[str, Any], int]:
    error, status = event.get("error"), event.get("status")
    return error if isinstance(error, dict) else {}, status if isinstance(status, int) else 0


def _code_of(error: dict[str, Any]) -> str:
    """Returns the code of an error.

    Holdline's own code is preferred, because it is more specific than the code of the Responses
    API.
    """
    ours = error.get("holdline")
    code = ours.get("error_code") if isinstance(ours, dict) else None
    return str(code or error.get("code") or "unknown")


def _failure(response: dict[str, Any]) -> Failed:
    error = response.get("error")
    known = error if isinstance(error, dict) else {}
    code = str(known.get("code") or "server_error")
    return Failed(code, str(known.get("message") or "The answer failed."))


def _checksum_mismatch() -> ChecksumMismatch:
    return ChecksumMismatch(
        "checksum_mismatch", "The text does not match the checksum from the server."
    )


def _retry_after(error: dict[str, Any]) -> float:
    headers = error.get("headers")
    try:
        return float(headers["Retry-After"]) if isinstance(headers, dict) else 0.0
    except (LookupError, TypeError, ValueError):
        return 0.0
