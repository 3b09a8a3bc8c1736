"""Estimates the additional memory that a decoded job needs, compared to its encoded bytes."""

from __future__ import annotations

from typing import Any, Final

# The assumed memory for each JSON value. Long conversations have the largest overhead, with 1.1 KB
# for an item of nine values. An empty object takes 72 bytes.
VALUE_BYTES: Final = 100


def overhead(value: Any) -> int:
    """Estimates the memory overhead in bytes of a JSON value and of all values in it."""
    values, rest = 0, [value]
    while rest:
        values += 1
        inner = rest.pop()
        kind = type(inner)
        if kind is dict:
            rest += inner.values()
        elif kind is list:
            rest += inner
    return VALUE_BYTES * values
