"""Estimates the memory that a decoded job takes in addition to its encoded bytes. Pure."""

from __future__ import annotations

from typing import Any, Final

# Long histories have the largest overhead: 1.1 KB for an item with nine values. An empty object
# takes 72 bytes.
VALUE_BYTES: Final = 100


def overhead(value: Any) -> int:
    """Estimates the overhead of a JSON value and of all values in it, in bytes."""
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
