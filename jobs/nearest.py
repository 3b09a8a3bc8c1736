"""Suggests a name in the place of an unknown one."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def suggestion(unknown: str, names: Iterable[str]) -> str:
    """Returns a hint for an error message: the most similar name, or all names if none is."""
    names = list(names)
    near = difflib.get_close_matches(unknown, names, n=1)
    return f"did you mean {near[0]}?" if near else f"known names: {', '.join(names)}"
