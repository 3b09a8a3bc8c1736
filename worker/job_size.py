"""How much memory a decoded job takes besides its bytes. Pure."""

from __future__ import annotations

from typing import Any, Final

# A large history takes most: 1.1 KB for an item with nine values. An empty object takes 72 bytes.
VALUE_BYTES: Final = 100


def overhead(value: Any) -> int:
    """The memory that all values in this one take besides their bytes, about."""
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
