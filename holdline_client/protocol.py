"""Reads and writes the WebSocket messages that this client uses.

docs/protocol-reference.md lists all messages.
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
UNAUTHENTICATED: Final = 4401

# Standard close codes after which the same client would fail again in the same way: protocol error,
# unsupported data, invalid payload, policy violation, message too big, missing extension.
_FINAL_STANDARD: Final = frozenset({1002, 1003, 1007, 1008, 1009, 1010})
# The codes from 4400 to 4499 that are temporary and no fault of the client: 4408 (no authentication
# in time) and 4429 (too many).
_COME_BACK: Final = frozenset({4408, 4429})
_TOO_MANY_SECONDS: Final = 5.0
_STATED = re.compile(r"retry_after_ms\W{1,3}(\d{1,9})", re.ASCII)


def parse_frame(data: object) -> Message | None:
    """Returns the event in a frame, or None for a frame without one.

    None is no error: if the frame was an event of an answer, the next sequence number reveals the
    gap.
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
    """Returns the frame of a message."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


def create(request: Message, lane: str, key: str) -> Message:
    """Returns a request on a lane.

    If the same key and body are sent again, they attach to the same response.
    """
    return {**request, "type": "response.create", "stream_id": lane, "idempotency_key": key}


def cancel(response_id: str) -> Message:
    """Returns a request to cancel a response."""
    return {"type": "response.cancel", "response_id": response_id}


def resume(response_id: str, after: int, shown: Mapping[str, str], lane: str) -> Message:
    """Returns a request for all events after a sequence number, and live ones after them.

    An `after` of -1 means from the beginning. `shown` has the `item_id` and the `event_type` of the
    event with that number, as far as they are known; the server compares them with its log.
    """
    return {
        "type": "holdline:resume",
        "response_id": response_id,
        "starting_after": after,
        **shown,
        "stream_id": lane,
    }


def ping(id_: str) -> Message:
    """Returns a ping, which the server answers with a pong."""
    return {"type": "holdline:ping", "id": id_}


def auth(token: str) -> Message:
    """Returns a message with a fresh token, for a socket that lives longer than its token."""
    return {"type": "holdline:auth", "token": token}


def socket_url(url: str) -> str:
    """Returns the WebSocket address of a server.

    Accepts `http:`, `https:`, `ws:` and `wss:`. A path that is empty or ends in `/v1` is completed,
    so the base URL for the official SDK works as well.

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
    """The reaction that a close code calls for; `after` is the delay in seconds."""

    come_back: bool
    after: float


def close_advice(code: int, reason: str = "") -> Advice:
    """Returns the reaction to a close. `reason` may contain `retry_after_ms=N`.

    An unknown code means "come back": an unnecessary connection costs little, but without one the
    answer might never be fetched.
    """
    client_is_wrong = 4400 <= code <= 4499 and code not in _COME_BACK
    come_back = not (code in _FINAL_STANDARD or client_is_wrong)
    if stated := _STATED.search(reason):
        return Advice(come_back, int(stated[1]) / 1000)
    return Advice(come_back, _TOO_MANY_SECONDS if code == 4429 else 0.0)
