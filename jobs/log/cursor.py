"""Where a follower stands in a log, and what a bell means to it.

The rule, for a bell that announces entries `first .. first + count - 1`:

    all of them before the cursor      seen     drop
    the cursor is among them           fits     send from the cursor on
    all of them after the cursor       behind   read the log from the cursor

Nothing else moves a cursor, so what a client has is a prefix of the log at all times.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

T = TypeVar("T")


class Place(Enum):
    """What a bell's entries are to a cursor."""

    SEEN = "seen"
    FITS = "fits"
    BEHIND = "behind"


@dataclass(slots=True)
class Cursor:
    """`next` is the sequence number of the entry that the client needs next."""

    next: int

    def place(self, first: int, count: int) -> Place:
        """What `count` entries from `first` on are to this cursor."""
        if first + count <= self.next:
            return Place.SEEN
        return Place.FITS if first <= self.next else Place.BEHIND

    def passes(self, first: int, count: int) -> bool:
        """True for entries that come next, of which the client thus lacks all; they count as sent.

        The usual bell: it fits whole, and `take` would cut nothing off. None at all are seen.
        """
        if first != self.next or not count:
            return False
        self.next += count
        return True

    def take(self, first: int, entries: list[T]) -> list[tuple[int, T]]:
        """The `(sequence number, entry)` pairs that the client lacks; they count as sent.

        Call it only for a place that fits: a gap here would be a gap at the client.
        """
        skip = self.next - first
        if skip < 0:
            raise ValueError(f"entries from {first} leave a gap after {self.next - 1}")
        fresh = [(first + index, entry) for index, entry in enumerate(entries) if index >= skip]
        self.next += len(fresh)
        return fresh
