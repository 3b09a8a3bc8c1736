"""Data that a provider puts into an item and wants back with it, such as a thought signature."""

from __future__ import annotations

from typing import Any, Final

from .deltas import Malformed
from .surrogates import encodable

MAX_DEPTH: Final = 16
_LARGEST: Final = 2**63


def provider_data(value: Any) -> dict[str, Any] | None:
    """The object as it can be stored, or None if it is none or empty.

    Raises: Malformed if it is nested too deeply.
    """
    return _copied(value, MAX_DEPTH) if isinstance(value, dict) and value else None


def _copied(value: Any, depth: int) -> Any:
    if not depth:
        raise Malformed("provider data that is nested too deeply")
    match value:
        case str():
            return encodable(value)
        case int() if not -_LARGEST <= value < _LARGEST:
            return str(value)  # MessagePack has no larger numbers
        case dict():
            return {encodable(name): _copied(inner, depth - 1) for name, inner in value.items()}
        case list():
            return [_copied(inner, depth - 1) for inner in value]
        case _:
            return value
