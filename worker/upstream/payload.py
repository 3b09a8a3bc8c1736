"""Parses the JSON object in a payload of either API, drops heartbeats and raises errors.

An endpoint may send an error instead of a chunk or an event. The error may be in one of the fields
`error`, `errors`, `message` or `detail`, in an object whose type is an error, or in a field that is
named after an exception.
"""

from __future__ import annotations

import re
from typing import Any, Final

from .deltas import ErrorInStream, Malformed, parse

# The payload that marks the end of the stream: `done` in upper or lower case, with or without
# brackets and quotes.
_DONE: Final = re.compile(rb"""[\s"'\[(<]*done[\s"'\])>.!]*""", re.IGNORECASE)
_HEARTBEAT: Final = re.compile(
    r"""[\s"'\[(<:*-]*(?:ping|pong|heart[ _-]?beat|keep[ _-]?alive)[\s"'\])>:.!*-]*""",
    re.IGNORECASE,
)
# Payloads that have no content, such as `null` or only punctuation.
_EMPTY: Final = re.compile(rb"""[\s"':.-]*|\s*"?null"?\s*""")
# Fields whose value may mark a payload as a heartbeat.
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
    """Returns True if `name`, an event's name or a bare payload, marks a heartbeat."""
    return _HEARTBEAT.fullmatch(name) is not None


def object_of(payload: bytes) -> dict[str, Any] | None:
    """Returns the JSON object in a payload, or None for a heartbeat.

    Raises: Malformed, ErrorInStream.
    """
    if _EMPTY.fullmatch(payload) or is_heartbeat(payload[:100].decode(errors="replace")):
        return None
    value = parse(payload)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]  # Gemini sends an error as a list of one object
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
        # A response object reports the failure of the response in its `error` field, which the
        # reader of the stream handles.
        return False
    if value.get("error") or "error" in (value.get("object"), value.get("status")):
        return True
    is_chunk = value.get("choices") or str(kind).startswith("response.")
    if is_chunk or value.get("code") in (0, "0"):
        return False
    if any(is_heartbeat(str(value.get(name, ""))) for name in _KINDS):
        return False
    status = value.get("base_resp")  # each chunk of MiniMax has a field `base_resp`
    return (
        value.get("success") is False
        or (isinstance(status, dict) and bool(status.get("status_code")))
        or any(value.get(name) for name in _ERROR_FIELDS)
        or any(name.endswith("Exception") for name in value)
    )
