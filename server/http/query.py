"""Reads the values in the query of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from server.api.problem import invalid
from server.api.validation import whole_number

if TYPE_CHECKING:
    from aiohttp import web

# The header in which an `EventSource` sends the `id` of the last event that it has received. After
# a lost connection, an `EventSource` repeats its first query, so the header takes precedence.
LAST_EVENT_ID: Final = "Last-Event-ID"


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
