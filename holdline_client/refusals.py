"""Explains why a server ends or refuses the connection of this client permanently.

Each final close code and each final HTTP status of the upgrade has its own sentence. The codes and
sentences for a credential are those of the server.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from .errors import Closed
from .protocol import UNAUTHENTICATED

_UPGRADE: Final = "Install the newest version of this client."
# The code, the sentence and the HTTP status for the final close codes of the standard.
_CLOSES: Final = {
    1002: ("protocol_error", f"The server rejected a message as a protocol error. {_UPGRADE}", 0),
    1003: ("unsupported_data", f"The server does not accept this kind of data. {_UPGRADE}", 0),
    1007: ("invalid_text", "The server rejected a message that is not valid UTF-8.", 0),
    1008: ("policy_violation", "The server or a proxy refuses this connection by its policy.", 0),
    1009: (
        "message_too_large",
        "The request is larger than the server accepts. Shorten the prompt.",
        413,
    ),
    1010: ("extension_required", f"The server requires a WebSocket extension. {_UPGRADE}", 0),
}
_STATUSES: Final = {
    403: "The server does not accept this host name or origin. Ask its operator for its URL.",
    404: "There is no Holdline server at this URL. Check its path.",
}


def closed_with(close_code: int, *, has_credential: bool) -> Closed:
    """Returns the error for a final close code. `protocol.close_advice` says which are final."""
    if close_code == UNAUTHENTICATED:
        return _unauthenticated(has_credential=has_credential, close_code=close_code)
    code, why, status = _CLOSES.get(
        close_code, ("connection_closed", "The server closed the connection permanently.", 0)
    )
    return Closed(
        code, f"{why} The close code is {close_code}.", close_code=close_code, status=status
    )


def refused_with(status: int, *, has_credential: bool) -> Closed:
    """Returns the error for an upgrade that the server refused with a final HTTP status."""
    if status == HTTPStatus.UNAUTHORIZED:
        return _unauthenticated(has_credential=has_credential)
    why = _STATUSES.get(status, "The server refused the connection.")
    return Closed("connection_refused", f"{why} The HTTP status is {status}.", status=status)


def _unauthenticated(*, has_credential: bool, close_code: int = 1000) -> Closed:
    if has_credential:
        code = "invalid_token"
        why = "The server refused the API key or the token of this client."
    else:
        code = "authentication_required"
        why = "The server requires an API key or a token, but this client has none."
    return Closed(code, why, close_code=close_code, status=HTTPStatus.UNAUTHORIZED)
