"""The frames of the wire as this client reads and writes them; docs/protocol.md has them all."""

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

# Standard codes after which the same client would fail in the same way again: protocol error, a
# kind of data that is not taken, data that is not of its kind, policy, too big, an extension.
_FINAL_STANDARD: Final = frozenset({1002, 1003, 1007, 1008, 1009, 1010})
# Of the band 4400 to 4499, what is about the moment and not about the client: silent, too many.
_COME_BACK: Final = frozenset({4408, 4429})
_TOO_MANY_SECONDS: Final = 5.0
_STATED = re.compile(r"retry_after_ms\W{1,3}(\d{1,9})", re.ASCII)


def parse_frame(data: object) -> Message | None:
    """The event in a frame, or None for a frame that is not one.

    A None needs no alarm: if it was an event of an answer, the next sequence number tells.
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
    """The frame of a message."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


def create(request: Message, lane: str, key: str) -> Message:
    """A request on a lane. The same key and body, sent again, attach to the same response."""
    return {**request, "type": "response.create", "stream_id": lane, "idempotency_key": key}


def cancel(response_id: str) -> Message:
    """Asks for the end of a response."""
    return {"type": "response.cancel", "response_id": response_id}


def resume(response_id: str, after: int, shown: Mapping[str, str], lane: str) -> Message:
    """Everything after a sequence number, then live; -1 means from the beginning.

    `shown` has the `item_id` and the `event_type` of the event with that number, as far as they are
    known: the server compares them with its log.
    """
    return {
        "type": "holdline:resume",
        "response_id": response_id,
        "starting_after": after,
        **shown,
        "stream_id": lane,
    }


def ping(id_: str) -> Message:
    """Asks for a pong."""
    return {"type": "holdline:ping", "id": id_}


def auth(token: str) -> Message:
    """A fresh token for a socket that lives longer than its token."""
    return {"type": "holdline:auth", "token": token}


def socket_url(url: str) -> str:
    """The address of the WebSocket of a server.

    Takes `http:`, `https:`, `ws:` and `wss:`. A path that is empty or ends in `/v1` is completed,
    so the base URL that one gives to the official SDK will do.

    Raises: ValueError.
    """
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in {"ws", "wss"} or not parts.hostname:
        raise ValueError(f"not the address of a server: {url!r}; say http://host:port")
    path = parts.path.rstrip("/")
    if not path.endswith(ROUTE):
        path = path.removesuffix("/v1") + ROUTE
    return urlunsplit((scheme, parts.netloc, path, parts.query, ""))


@dataclass(frozen=True, slots=True)
class Advice:
    """What a close code advises; `after` in seconds."""

    come_back: bool
    after: float


def close_advice(code: int, reason: str = "") -> Advice:
    """What to do after a close. `reason` may state `retry_after_ms=N`.

    An unknown code means "come back": a socket too many costs little, an answer that nobody fetches
    costs everything.
    """
    client_is_wrong = 4400 <= code <= 4499 and code not in _COME_BACK
    come_back = not (code in _FINAL_STANDARD or client_is_wrong)
    if stated := _STATED.search(reason):
        return Advice(come_back, int(stated[1]) / 1000)
    return Advice(come_back, _TOO_MANY_SECONDS if code == 4429 else 0.0)
