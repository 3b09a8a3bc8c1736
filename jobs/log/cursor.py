"""Tracks the position of a follower, which sends a log to one client, as a cursor.

A notification announces the entries `first .. first + count - 1`. The follower compares them with
its cursor, which is the number of the next entry to send:

    all entries are before the cursor     SEEN   drop the entries
    the cursor is among the entries       FITS   send the entries from the cursor on
    all entries are after the cursor      GAP    read the log from the cursor

Only sent entries move a cursor, so the client has a prefix of the log at all times.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

T = TypeVar("T")


class Relation(Enum):
    """The position of announced entries relative to a cursor: before it, at it, or after it."""

    SEEN = "seen"
    FITS = "fits"
    GAP = "gap"


@dataclass(slots=True)
class Cursor:
    """A follower's position in a log. `next` is the sequence number of the next entry to send."""

    next: int

    def relation(self, first: int, count: int) -> Relation:
        """Compares `count` announced entries, the first of which is `first`, with this cursor."""
        if first + count <= self.next:
            return Relation.SEEN
        return Relation.FITS if first <= self.next else Relation.GAP

    def passes(self, first: int, count: int) -> bool:
        """Moves the cursor past `count` entries and returns True, if the cursor is at `first`.

        Otherwise, or if `count` is 0, does nothing and returns False. This is a faster form of
        `take` for the common case, in which the client has received none of the entries.
        """
        if first != self.next or not count:
            return False
        self.next += count
        return True

    def take(self, first: int, entries: list[T]) -> list[tuple[int, T]]:
        """Returns the `(sequence number, entry)` pairs from the cursor on, and moves past them.

        Raises: ValueError if the entries begin after the cursor, because the client would miss the
            entries in the gap.
        """
        skip = self.next - first
        if skip < 0:
            raise ValueError(f"entries {self.next} to {first - 1} are missing")
        fresh = [(first + index, entry) for index, entry in enumerate(entries) if index >= skip]
        self.next += len(fresh)
        return fresh
