"""The result of one log read: a view, and its entries decoded into events."""

from __future__ import annotations

from jobs.log.view import View
from server.api.frames import Frame, frame

# All callers of one read share this result, so no caller may modify it.
Look = tuple[View, list[Frame]]


def framed(first: int, entries: list[bytes]) -> list[Frame]:
    """Decodes the log entries that begin at index `first`. Raises: Undecodable."""
    # Usually there is one entry, and this path saves the cost of a comprehension.
    if len(entries) == 1:
        return [frame(first, entries[0])]
    return [frame(number, entry) for number, entry in enumerate(entries, first)]
