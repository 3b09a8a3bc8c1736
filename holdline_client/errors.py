"""The client's errors; each class calls for a different reaction.

Error                 `code` is that of the server if it sent the error: docs/protocol-reference.md
├── Refused           the request was not accepted: correct it, or try again later
├── Failed            the answer was started and failed; its partial text is in `answer.text`
├── Restarted         the text that an iteration has yielded is void
├── OutcomeUnknown    the connection was lost for too long to learn whether the request was accepted
├── ChecksumMismatch  the text does not match the checksum that the server keeps
└── Closed            the connection is closed for good
    └── Unreachable   no server answered in time
"""

from __future__ import annotations


class Error(Exception):
    """The base class. `status` is the HTTP status that belongs to `code`, 0 if there is none."""

    def __init__(
        self, code: str, message: str, *, status: int = 0, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.param = param

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


class Refused(Error):
    """The server, or the client itself, refused the request; no model was called."""


class Failed(Error):
    """The answer ended with `response.failed` or was lost; it will not be finished."""


class Restarted(Error):
    """The attempt whose text was being yielded has died, and another one writes a new text.

    Iterate over the same answer again: the iteration begins with the first piece of the new text.
    `attempt` counts from 1.
    """

    def __init__(self, attempt: int, reason: str) -> None:
        super().__init__("restarted", "The text so far was discarded. The answer starts over.")
        self.attempt = attempt
        self.reason = reason


class OutcomeUnknown(Error):
    """The connection was lost before it was known whether the server accepted the request.

    Send the request again with the same idempotency key: it attaches to the answer, if there is
    one.
    """


class ChecksumMismatch(Error):
    """The text was fetched twice and does not match its SHA-256; it is in `answer.text`."""


class Closed(Error):
    """The connection is closed for good; `close_code` is the WebSocket's, 1000 for `close`."""

    def __init__(self, code: str, message: str, *, close_code: int = 1000, status: int = 0) -> None:
        super().__init__(code, message, status=status)
        self.close_code = close_code


class Unreachable(Closed):
    """No server sent its welcome message in time."""
