"""Parses the JSON object of a payload for both APIs, drops heartbeats and raises errors.

An endpoint may send an error in place of a chunk or an event, in one of many forms: in `error`,
`errors`, `message` or `detail`, in an object whose type is an error, or under the name of an
exception.
"""

from __future__ import annotations

from typing import Any, Final

from .deltas import ErrorInStream, Malformed, parse

_PINGS: Final = frozenset({"ping", "heartbeat", "keepalive", "keep-alive"})
# Payloads without an object, compared without quotes.
_NO_OBJECTS: Final = frozenset(
    {b"", b"null", b"done", b"[done]", b"ping", b"[ping]", b"heartbeat", b"keepalive"}
)
_ERROR_FIELDS: Final = (
    "detail",
    "error_code",
    "error_msg",
    "error_type",
    "errors",
    "message",
    "msg",
)


def object_of(payload: bytes) -> dict[str, Any] | None:
    """Returns the object of a payload; None for a heartbeat. Raises: Malformed, ErrorInStream."""
    if payload.strip(b' \n"').lower() in _NO_OBJECTS:
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
    is_chunk = value.get("choices") or kind in _PINGS or str(kind).startswith("response.")
    if is_chunk or value.get("code") in (0, "0"):
        return False
    status = value.get("base_resp")  # MiniMax has one in each chunk.
    return (
        value.get("success") is False
        or (isinstance(status, dict) and bool(status.get("status_code")))
        or any(value.get(name) for name in _ERROR_FIELDS)
        or any(name.endswith("Exception") for name in value)
    )
