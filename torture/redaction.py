"""Removes keys from the output of processes and the replies of servers, for the reports."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

REDACTED: Final = "[redacted]"
# A shorter value is probably a placeholder such as `any`, and could be a part of another word.
MIN_SECRET_LENGTH: Final = 8
_SECRET_NAME: Final = re.compile(
    r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|AUTH|COOKIE", re.IGNORECASE
)
# Keys of unknown value: bearer tokens, keys in OpenAI's form, and passwords in URLs.
_PATTERNS: Final = (
    re.compile(r"(?<=bearer )[^\s\"',]{8,}", re.IGNORECASE),
    re.compile(r"\bsk-[\w-]{8,}"),
    re.compile(r"(?<=://)[^\s/@]*:[^\s/@]+(?=@)"),
)


class Redactor:
    """Replaces the keys of one run. Short values and existing paths are not treated as keys."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    def add(self, *secrets: str) -> None:
        """Adds keys to replace."""
        self._secrets |= {
            one for one in secrets if len(one) >= MIN_SECRET_LENGTH and not _is_path(one)
        }

    def __call__(self, text: str) -> str:
        """Returns a text with its keys replaced."""
        # The longest first, because one key can be a part of another.
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, REDACTED)
        for pattern in _PATTERNS:
            text = pattern.sub(REDACTED, text)
        return text


def secrets_in(values: Mapping[str, str]) -> set[str]:
    """Returns the values of variables or headers whose names are those of keys, as `API_KEY`."""
    return {value for name, value in values.items() if _SECRET_NAME.search(name)}


def _is_path(value: str) -> bool:
    try:
        return Path(value).exists()
    except (OSError, ValueError):
        return False
