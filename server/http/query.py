"""Reads the values in the query of a request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from server.api.problem import invalid

if TYPE_CHECKING:
    from aiohttp import web

# The largest sequence number that every client can represent.
MAX_SEQUENCE: Final = 2**53
# The header in which an `EventSource` sends the `id` of the last event that it has received. It
# repeats its first query after each lost connection, so the header has priority over the query.
LAST_EVENT_ID: Final = "Last-Event-ID"
_WHOLE: Final = re.compile(r"[+-]?[0-9]+")


def flag(request: web.Request, name: str) -> bool:
    """Returns a flag in the query, which is False by default. Raises: Problem."""
    match request.query.get(name, "false").lower():
        case "true" | "1":
            return True
        case "false" | "0":
            return False
        case _:
            raise invalid(name, f"'{name}' must be true or false.")


def integer(request: web.Request, name: str, default: int, least: int, most: int) -> int:
    """Returns a number in the query, or its default. Raises: Problem."""
    written = request.query.get(name)
    return default if written is None else whole_number(written, name, least, most)


def whole_number(written: str, name: str, least: int, most: int) -> int:
    """Returns a number that a client has written. Raises: Problem."""
    if not _WHOLE.fullmatch(written):  # `int` also accepts spaces, underscores and other digits
        raise invalid(name, f"'{name}' must be a whole number.")
    value = int(written) if len(written) < 20 else most + 1
    if not least <= value <= most:
        raise invalid(name, f"'{name}' must be between {least} and {most}.")
    return value
