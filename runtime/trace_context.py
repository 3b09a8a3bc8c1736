"""Parses and builds trace contexts, in the format of the W3C header `traceparent`.

A trace context is the text `00-<trace id>-<span id>-<flags>`. An empty text means that there is no
trace context.
"""

from __future__ import annotations

import re
import secrets
from typing import Final

_TRACEPARENT: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    r"(?P<rest>-.*)?",
    re.ASCII | re.DOTALL,
)
_SAMPLED: Final = 1
MAX_CHARACTERS: Final = 512


def parsed(header: object) -> str:
    """Returns a client's `traceparent` as a trace context, or "" if it is invalid or missing.

    Of the flags, only `sampled` is kept. As the standard requires, a newer version of the header is
    accepted, and its additional fields are ignored.
    """
    if not isinstance(header, str) or len(header) > MAX_CHARACTERS:
        return ""
    found = _TRACEPARENT.fullmatch(header.strip(" \t"))
    if found is None or found["version"] == "ff":
        return ""
    if (found["version"] == "00" and found["rest"]) or not found["trace"].strip("0"):
        return ""
    if not found["span"].strip("0"):
        return ""
    return f"00-{found['trace']}-{found['span']}-{int(found['flags'], 16) & _SAMPLED:02x}"


def new() -> str:
    """Returns the context of a new trace that is not recorded."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"


def trace_id(context: str) -> str:
    """Returns the trace id of a trace context, or "" if it is empty."""
    return context[3:35]
