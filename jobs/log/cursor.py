"""A follower's position in a log, and how a notification relates to it.

A notification announces the entries `first .. first + count - 1`:

    all of them are before the cursor     SEEN   drop them
    the cursor is among them              FITS   send from the cursor on
    all of them are after the cursor      GAP    read the log from the cursor

Nothing else moves a cursor, so a client has a prefix of the log at all times.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

T = TypeVar("T")


class Relation(Enum):
    """How announced entries relate to a cursor."""

    SEEN = "seen"
    FITS = "fits"
    GAP = "gap"


@dataclass(slots=True)
class Cursor:
    """A follower's position; `next` is the sequence number of the next entry to send."""

    next: int

    def relation(self, first: int, count: int) -> Relation:
        """Returns how `count` entries from `first` on relate to this cursor."""
        if first + count <= self.next:
            return Relation.SEEN
        return Relation.FITS if first <= self.next else Relation.GAP

    def passes(self, first: int, count: int) -> bool:
        """Moves past `count` entries if the first of them is the next one; returns whether it did.

        This is the common case, in which `take` would cut nothing off. Returns False for no
        entries.
        """
        if first != self.next or not count:
            return False
        self.next += count
        return True

    def take(self, first: int, entries: list[T]) -> list[tuple[int, T]]:
        """Returns the `(sequence number, entry)` pairs from the cursor on, and moves past them.

        Raises: ValueError if there is a gap before the entries, which the client would see.
        """
        skip = self.next - first
        if skip < 0:
            raise ValueError(f"entries from {first} leave a gap after {self.next - 1}")
        fresh = [(first + index, entry) for index, entry in enumerate(entries) if index >= skip]
        self.next += len(fresh)
        return fresh
