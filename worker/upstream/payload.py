"""Parses the JSON object of a payload for both APIs, drops heartbeats and raises errors.

An endpoint may send an error in place of a chunk or an event, in one of many forms: in `error`,
`errors`, `message` or `detail`, in an object whose type is an error, or under the name of an
exception.
"""

from __future__ import annotations

import re
from typing import Any, Final

from .deltas import ErrorInStream, Malformed, parse

# The end of the stream, in any case and with or without brackets and quotes.
_DONE: Final = re.compile(rb"""[\s"'\[(<]*done[\s"'\])>.!]*""", re.IGNORECASE)
_HEARTBEAT: Final = re.compile(
    r"""[\s"'\[(<:*-]*(?:ping|pong|heart[ _-]?beat|keep[ _-]?alive)[\s"'\])>:.!*-]*""",
    re.IGNORECASE,
)
# Payloads without content.
_EMPTY: Final = re.compile(rb"""[\s"':.-]*|\s*"?null"?\s*""")
# Fields that may name a heartbeat.
_KINDS: Final = ("type", "event", "object", "status", "message", "msg")
_ERROR_FIELDS: Final = (
    "detail",
    "error_code",
    "error_msg",
    "error_type",
    "errors",
    "message",
    "msg",
)


def is_done(payload: bytes) -> bool:
    """Returns True if a payload marks the end of the stream."""
    return _DONE.fullmatch(payload) is not None


def is_heartbeat(name: str) -> bool:
    """Returns True if a payload without an object, or the name of an event, is a heartbeat."""
    return _HEARTBEAT.fullmatch(name) is not None


def object_of(payload: bytes) -> dict[str, Any] | None:
    """Returns the object of a payload; None for a heartbeat. Raises: Malformed, ErrorInStream."""
    if _EMPTY.fullmatch(payload) or is_heartbeat(payload[:100].decode(errors="replace")):
        return None
    value = parse(payload)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]  # Gemini's errors
    if not isinstance(value, dict):
        raise Malformed("an event is not a JSON object")
    if _is_error(value):
        raise ErrorInStream(value)
    return value


def _is_error(value: dict[str, Any]) -> bool:
    kind = value.get("type")
    if kind in ("error", "response.error"):
        return True
    if "response" in value or value.get("object") == "response":
        return False  # A response object reports its error in its own `error` field.
    if value.get("error") or "error" in (value.get("object"), value.get("status")):
        return True
    is_chunk = value.get("choices") or str(kind).startswith("response.")
    if is_chunk or value.get("code") in (0, "0"):
        return False
    if any(is_heartbeat(str(value.get(name, ""))) for name in _KINDS):
        return False
    status = value.get("base_resp")  # MiniMax has one in each chunk.
    return (
        value.get("success") is False
        or (isinstance(status, dict) and bool(status.get("status_code")))
        or any(value.get(name) for name in _ERROR_FIELDS)
        or any(name.endswith("Exception") for name in value)
    )
