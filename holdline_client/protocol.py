"""Reads and writes the WebSocket messages that this client uses.

docs/protocol-reference.md lists all messages of the protocol.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

Message = dict[str, Any]

ROUTE: Final = "/v1/responses"
# The subprotocol that switches on Holdline's own messages, in JSON.
SUBPROTOCOL: Final = "holdline.v1"
UNAUTHENTICATED: Final = 4401
NO_CREDENTIAL: Final = 4408  # the client sent no credential in time

# The standard WebSocket close codes after which a new connection of the same client would fail in
# the same way. They mean protocol error, unsupported data, invalid payload, policy violation,
# message too big, and missing extension.
_FINAL_STANDARD: Final = frozenset({1002, 1003, 1007, 1008, 1009, 1010})
# Close codes from 4400 to 4499 report a fault of the client, except for these temporary ones: 4408
# (no authentication in time) and 4429 (too many sockets of the tenant).
_COME_BACK: Final = frozenset({NO_CREDENTIAL, 4429})
_TOO_MANY_SECONDS: Final = 5.0
_STATED = re.compile(r"retry_after_ms\W{1,3}(\d{1,9})", re.ASCII)


def parse_frame(data: object) -> Message | None:
    """Returns the event in a WebSocket frame, or None if the frame contains no event.

    An invalid frame is not an error here. If it was an event of an answer, the next sequence number
    shows that an event is missing.
    """
    if not isinstance(data, str):
        return None
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        return None
    return value


def encode(message: Message) -> str:
    """Encodes a message as the text of a WebSocket frame."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


def create(request: Message, lane: str, key: str) -> Message:
    """Returns a message that creates a response on a lane, which is one stream of the socket.

    If the same request is sent again with the same idempotency key, the server returns the same
    response.
    """
    return {**request, "type": "response.create", "stream_id": lane, "idempotency_key": key}


def cancel(response_id: str) -> Message:
    """Returns a message that cancels a response."""
    return {"type": "response.cancel", "response_id": response_id}


def resume(response_id: str, after: int, shown: Mapping[str, Any], lane: str) -> Message:
    """Returns a message that requests all events after a sequence number, and then live events.

    If `after` is -1, the events start at the beginning. `shown` contains the `item_id` and the
    `event_type` of the event with the number `after`, as far as they are known. The server compares
    them with its log, to detect lost events. `shown` may also contain `include_obfuscation`.
    """
    return {
        "type": "holdline:resume",
        "response_id": response_id,
        "starting_after": after,
        **shown,
        "stream_id": lane,
    }


def ping(id_: str) -> Message:
    """Returns a ping message, to which the server replies with a pong."""
    return {"type": "holdline:ping", "id": id_}


def auth(token: str) -> Message:
    """Returns a message with a fresh token, for a socket whose token will expire."""
    return {"type": "holdline:auth", "token": token}


def socket_url(url: str) -> str:
    """Converts the URL of a server to the URL of its WebSocket.

    The URL may begin with `http:`, `https:`, `ws:` or `wss:`. A path that is empty or ends with
    `/v1` is completed, so the base URL for the official SDK works too.

    Raises: ValueError.
    """
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in {"ws", "wss"} or not parts.hostname:
        raise ValueError(f"{url!r} is not the URL of a server: use the form http://host:port")
    path = parts.path.rstrip("/")
    if not path.endswith(ROUTE):
        path = path.removesuffix("/v1") + ROUTE
    return urlunsplit((scheme, parts.netloc, path, parts.query, ""))


@dataclass(frozen=True, slots=True)
class Advice:
    """The recommended reaction to a close code.

    `come_back` is True if the client should connect again, after a delay of `after` seconds.
    """

    come_back: bool
    after: float


def close_advice(code: int, reason: str = "") -> Advice:
    """Returns the recommended reaction when the server closes the socket.

    `reason` may contain `retry_after_ms=N`.

    After an unknown close code the client should connect again. An unnecessary connection costs
    little, but without a connection the client might never get the answer.
    """
    client_is_wrong = 4400 <= code <= 4499 and code not in _COME_BACK
    come_back = not (code in _FINAL_STANDARD or client_is_wrong)
    if stated := _STATED.search(reason):
        return Advice(come_back, int(stated[1]) / 1000)
    return Advice(come_back, _TOO_MANY_SECONDS if code == 4429 else 0.0)
