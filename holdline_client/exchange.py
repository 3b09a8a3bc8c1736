"""One exchange, from the prompt to the verified answer, across any number of sockets. No I/O.

Until the server has named the response, a lost socket leads to the request being sent again, with
an idempotency key that attaches it to the first one. After that, it leads to a resume after the
last sequence number. Neither ever causes a second call of a model.

    event                sends                                    and waits for
    opened, no id        the request with its key                 `ACCEPT_SECONDS`, then again
    opened, an id        a resume after `state.last`              events
    a gap                a resume, once for each position         events
    a momentary refusal  nothing                                  a delay, then as opened
    a log rolled back    nothing                                  a delay, then a resume after -1
    a wrong checksum     a resume after -1, once                  the whole log again

The driver sends the returned messages in order, and calls `tick` at the time `due`. Times are in
seconds.
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

# The time after which an unanswered request is sent again, and the number of sendings.
ACCEPT_SECONDS: Final = 30.0
ACCEPT_TRIES: Final = 3

# The time after the first sending in which a request may be sent again. The server deletes a key
# with its response, after an hour unless configured otherwise. A later resend would cause a second
# call of the model.
RESEND_SECONDS: Final = 1800.0

# The tries after consecutive momentary refusals (429, 5xx). A request that is not accepted may fail
# soon, because its author can repeat it; an accepted answer is worth a long wait.
BUSY_TRIES: Final = 6
BUSY_TRIES_ACCEPTED: Final = 200


class Renew:
    """An action: replace the socket, because it does not deliver the requested events."""


class Exchange:
    """The messages sent and the events received for one answer."""

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
        self._jitter = jitter
        self._open = False
        self._stopping = False
        self._limit: int | None = None
        self._sent_at: float | None = None
        self._sendings = 0
        self._refusals = 0
        self._asked_after: int | None = None
        self._holed = False
        # The state of a log that is fetched once more after a wrong checksum.
        self._again: ResponseState | None = None

    @property
    def accepted(self) -> bool:
        """True once the server has named the response."""
        return self.state.response_id is not None

    @property
    def _reading(self) -> ResponseState:
        return self._again or self.state

    # Inputs

    def opened(self, now: float, message_bytes: int | None = None) -> list[Message]:
        """Handles an open socket, whose server accepts messages of up to `message_bytes`."""
        if self.settled:
            return []
        self._open, self._limit = True, message_bytes
        if not self.accepted:
            return self._create(now)
        return [*self._resume(), *self._cancel_if_wanted()]

    def lost(self) -> None:
        """Handles the loss of the socket, and of the requests sent on it."""
        self._open = self._holed = False
        self._asked_after, self._sendings = None, 0
        if self.settled:
            return
        waits = self._sent_at is not None and not self.accepted
        self.due = (self._sent_at or 0.0) + RESEND_SECONDS if waits else None

    def tick(self, now: float) -> list[Message]:
        """Returns the messages to send once the deadline `due` has passed."""
        if self.settled or self.due is None or now < self.due:
            return []
        self.due = None
        if self._open:
            return self.opened(now, self._limit)
        self._outcome_unknown()
        return []

    def stop(self) -> list[Message]:
        """Cancels the answer for the caller. A request that was never sent is withdrawn at once."""
        if self.settled or self._stopping:
            return []
        self._stopping = True
        if not self.accepted and self._sent_at is None:
            self.state.withdraw()
            self._settle()
        return self._cancel_if_wanted() if self._open else []

    def received(self, event: Message, now: float) -> list[Message] | Renew:
        """Handles an event of the exchange's lane."""
        if self.settled:
            return []
        if event["type"] == "error":
            return self._refused(event, now)
        if event["type"] == "holdline:ended":
            # The caller has the last event already; a resume one event earlier sends it again.
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
        """Handles a pong, which names the last event sent; None if the response is not followed."""
        if self.settled or not self.accepted or self.busy:
            return []
        if last is not None and last <= self._reading.last:
            return []
        # It was requested before and has still not arrived, so this socket will not deliver it.
        return Renew() if self._asked_after == self._reading.last else self._resume()

    def fail(self, error: Error) -> None:
        """Ends the exchange with an error that is not in its log."""
        if self.settled:
            return
        self.state.fail()
        # The text with the wrong checksum, marked as such, is better than none.
        self.error = error if self._again is None else _checksum_mismatch()
        self._settle()

    # Actions

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
            # The server would close the socket, which all other answers share.
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
        return [protocol.resume(self.state.response_id, reading.last, reading.shown, self.lane)]

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
            # The response is followed already, or ended before the cancel arrived. But if events
            # are missing on this socket, the server will not send them on it again.
            return Renew() if self._holed else []
        rolled_back = _code_of(error) == "response_rolled_back"
        momentary = rolled_back or status == 429 or status >= 500
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
        """Compares the checksum; a log whose text does not match is fetched again, once."""
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
    """Returns the server's own code of an error, which is more specific than the standard's."""
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
