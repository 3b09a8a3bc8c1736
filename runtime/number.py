"""Parses the numbers in settings and in the arguments of commands.

`float` and `int` also accept other digits than 0 to 9, underscores and spaces, and `float` accepts
`inf` and `nan`. Such a value is probably a mistake, so it is refused. The caller names the field.
"""

from __future__ import annotations

import re
from typing import Final

_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,19}")


def parse_number(written: str) -> float:
    """Returns a number that is written in decimal, such as 2.5 or 1e6. Raises: ValueError."""
    if _NUMBER.fullmatch(written) is None:
        raise ValueError(f"{written!r} is not a number")
    return float(written)


def parse_whole(written: str) -> int:
    """Returns a whole number of at most 19 digits. Raises: ValueError."""
    if _WHOLE.fullmatch(written) is None:
        raise ValueError(f"{written!r} is not a whole number")
    return int(written)
