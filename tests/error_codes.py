"""Our own code of an error, which clients of the standard need not know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def own_code(error: Mapping[str, Any]) -> str:
    """The code in an error's `holdline` object, or the standard's where that says as much."""
    code: str = error.get("holdline", error).get("error_code") or error["code"]
    return code
