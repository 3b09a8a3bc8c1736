"""Reads an API key from the text of a file or the output of a command.

The text is the key itself, or JSON in one of the formats of cloud services and their command-line
tools:

    az account get-access-token           {"accessToken": …, "expires_on": 1795933000, …}
    gcloud auth print-access-token        the token as plain text
    gcloud config config-helper           {"credential": {"access_token": …, "token_expiry": …}}
    a metadata server, or an OAuth server {"access_token": …, "expires_in": 3599}
    an ExecCredential of Kubernetes       {"status": {"token": …, "expirationTimestamp": …}}

If the key is a JWT, its expiry is read from its claims.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

MAX_KEY: Final = 16_384
# The names of fields that may contain the key, in lower case and without `_` and `-`. The first
# name that occurs in the JSON is used.
_KEYS: Final = ("accesstoken", "token", "idtoken", "apikey", "key")
_ENDS: Final = (
    "expireson",
    "expiresat",
    "expiration",
    "expirationtimestamp",
    "expirationtime",
    "tokenexpiry",
    "expiry",
    "expiresin",
    "exp",
)
_MAX_DEPTH: Final = 4
_HEADER_SAFE: Final = re.compile(rf"[\x21-\x7e]{{1,{MAX_KEY}}}")
_JWT: Final = re.compile(r"[\w-]+\.([\w-]+)\.[\w-]*", re.ASCII)
# An expiry below `_RELATIVE` is in seconds from now. An expiry above `_MILLISECONDS` is in
# milliseconds since the epoch. Any other expiry is in seconds since the epoch.
_RELATIVE: Final = 100_000_000
_MILLISECONDS: Final = 100_000_000_000


@dataclass(frozen=True, slots=True)
class KeyText:
    """An API key and its expiry.

    `ends_at` is in seconds since the epoch, or None if the expiry is unknown.
    """

    key: str = field(repr=False)
    ends_at: float | None = None


def key_of(text: str, now: float) -> KeyText:
    """Returns the API key in a text.

    Raises: ValueError, whose message never quotes the text.
    """
    text = text.strip()
    if not text:
        raise ValueError("the key is empty")
    if not text.startswith(("{", "[", '"')):
        return KeyText(_checked(text), _end_of_jwt(text))
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("the text begins like JSON, but is not valid JSON") from None
    if isinstance(value, str):
        return KeyText(_checked(value.strip()), _end_of_jwt(value.strip()))
    found = next((one for name in _KEYS for one in _named(value, name) if _is_text(one)), None)
    if found is None:
        raise ValueError("the JSON has no access_token, token or key")
    ends = [one for name in _ENDS for one in _named(value, name)]
    # Numbers come first, because `az` prints the expiry both as a number and as a date without a
    # time zone.
    ends.sort(key=lambda end: not isinstance(end, int | float))
    known = [time for end in ends if (time := _time(end, now)) is not None]
    return KeyText(_checked(found), known[0] if known else _end_of_jwt(found))


def _checked(key: str) -> str:
    if not _HEADER_SAFE.fullmatch(key):
        raise ValueError(f"the key must be a single word of 1 to {MAX_KEY} printable characters")
    return key


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _named(value: Any, name: str, depth: int = 0) -> Iterator[Any]:
    """Yields the values of all fields with this name. Outer fields come before nested fields."""
    if not isinstance(value, dict) or depth > _MAX_DEPTH:
        return
    for given, inner in value.items():
        if given.casefold().replace("_", "").replace("-", "") == name:
            yield inner
    for inner in value.values():
        yield from _named(inner, name, depth + 1)


def _time(value: Any, now: float) -> float | None:
    """Converts an expiry to seconds since the epoch. Returns None if it is no number or date.

    A date without a time zone is in local time.
    """
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return _date(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    if value < _RELATIVE:
        return now + value
    return value / 1000 if value > _MILLISECONDS else float(value)


def _date(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None


def _end_of_jwt(key: str) -> float | None:
    """Returns the expiry in the claims of a JWT, or None if there is none.

    The signature of the JWT is not verified, so the result must not be used to grant access.
    """
    match = _JWT.fullmatch(key)
    if match is None:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(match[1] + "=" * (-len(match[1]) % 4)))
    except (ValueError, RecursionError, binascii.Error):
        return None
    end = claims.get("exp") if isinstance(claims, dict) else None
    return float(end) if isinstance(end, int | float) and _RELATIVE < end < _MILLISECONDS else None
