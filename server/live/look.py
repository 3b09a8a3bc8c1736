"""The result of one read of a log: a view, with its entries decoded into events."""

from __future__ import annotations

from jobs.log.view import View
from server.api.frames import Frame, frame

# All callers of one read share its result, so none may change it.
Look = tuple[View, list[Frame]]


def framed(first: int, entries: list[bytes]) -> list[Frame]:
    """Decodes entries, the first of which is at index `first`. Raises: Undecodable."""
    if len(entries) == 1:  # the usual case; a comprehension would cost one more call
        return [frame(first, entries[0])]
    return [frame(number, entry) for number, entry in enumerate(entries, first)]
