"""Removes keys from what processes print and servers answer, before a report shows it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

REDACTED: Final = "[redacted]"
# A shorter value is a placeholder such as `any`, and could be a part of an ordinary word.
MIN_SECRET_LENGTH: Final = 8
_SECRET_NAME: Final = re.compile(
    r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|AUTH|COOKIE", re.IGNORECASE
)
# Keys that the target has from elsewhere: bearer tokens, keys in OpenAI's form, passwords in URLs.
_PATTERNS: Final = (
    re.compile(r"(?<=bearer )[^\s\"',]{8,}", re.IGNORECASE),
    re.compile(r"\bsk-[\w-]{8,}"),
    re.compile(r"(?<=://)[^\s/@]*:[^\s/@]+(?=@)"),
)


class Redactor:
    """Replaces the keys of one run. Short values and existing paths are no keys."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    def add(self, *secrets: str) -> None:
        """Adds keys that are to be replaced."""
        self._secrets |= {
            one for one in secrets if len(one) >= MIN_SECRET_LENGTH and not _is_path(one)
        }

    def __call__(self, text: str) -> str:
        """Returns a text without keys."""
        # The longest first, because one key can be a part of another.
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, REDACTED)
        for pattern in _PATTERNS:
            text = pattern.sub(REDACTED, text)
        return text


def secrets_in(values: Mapping[str, str]) -> set[str]:
    """Returns the values of the variables or headers with the names of keys, such as `API_KEY`."""
    return {value for name, value in values.items() if _SECRET_NAME.search(name)}


def _is_path(value: str) -> bool:
    try:
        return Path(value).exists()
    except (OSError, ValueError):
        return False
