"""The result of one read of a log: a view, and its entries as events."""

from __future__ import annotations

from jobs.log.view import View
from server.api.frames import Frame, frame

# Shared by all callers of one read, none of which may change it.
Look = tuple[View, list[Frame]]


def framed(first: int, entries: list[bytes]) -> list[Frame]:
    """Decodes entries, the first of which is at index `first`. Raises: Undecodable."""
    if len(entries) == 1:  # nearly always, and a comprehension is a call of its own
        return [frame(first, entries[0])]
    return [frame(number, entry) for number, entry in enumerate(entries, first)]
