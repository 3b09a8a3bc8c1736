"""The errors of the client. Each class calls for a different reaction of the caller.

Error                 the base class; docs/protocol-reference.md lists the codes of the server
├── Refused           the request was not accepted: correct it, or try again later
├── Failed            the answer has failed; `answer.text` has its partial text
├── Restarted         the answer starts over, and the text that an iteration has yielded is void
├── OutcomeUnknown    the connection was lost before the server said whether it accepts the request
├── ChecksumMismatch  the text does not match the checksum from the server
└── Closed            the connection is closed and will not be opened again
    └── Unreachable   no server answered in time
"""

from __future__ import annotations


class Error(Exception):
    """The base class of all errors of the client.

    `status` is the HTTP status that belongs to `code`, or 0 if there is none.
    """

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
    """The server or the client itself refused the request. No model was called."""


class Failed(Error):
    """The answer ended with `response.failed` or was lost. The server will not finish it."""


class Restarted(Error):
    """The attempt that produced the text so far has died, and another attempt writes a new text.

    Iterate over the same answer again to get the new text from its beginning. `attempt` counts from
    1.
    """

    def __init__(self, attempt: int, reason: str) -> None:
        super().__init__("restarted", "The text so far was discarded. The answer starts over.")
        self.attempt = attempt
        self.reason = reason


class OutcomeUnknown(Error):
    """The connection was lost before the server reported whether it accepted the request.

    Send the request again with the same idempotency key. If the first request was accepted, the
    server returns its answer.
    """


class ChecksumMismatch(Error):
    """The text does not match its SHA-256 checksum, even after the client fetched it twice.

    The text is in `answer.text`.
    """


class Closed(Error):
    """The connection is closed, and the client will not open it again.

    `close_code` is the WebSocket close code. It is 1000 after a call to `Client.close`. `status` is
    401 if the server refused the client's credential, or required one and the client has none.
    """

    def __init__(self, code: str, message: str, *, close_code: int = 1000, status: int = 0) -> None:
        super().__init__(code, message, status=status)
        self.close_code = close_code


class Unreachable(Closed):
    """No server sent its welcome message in time."""
