"""Reads Holdline's own error codes, which are not part of the standard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def own_code(error: Mapping[str, Any]) -> str:
    """Returns the code in the error's `holdline` object, or the standard code if there is none."""
    code: str = error.get("holdline", error).get("error_code") or error["code"]
    return code
