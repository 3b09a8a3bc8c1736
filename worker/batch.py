"""Joins pieces of text to deltas, and groups log entries into batches for one append each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from jobs.log.codec import encode_event, encode_text_delta
from jobs.log.items import delta

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobs.log.items import Place

# A character takes at most four bytes, so no delta is larger than 16 KB.
MAX_DELTA_CHARACTERS: Final = 4096
# A run of text has at most this many log probabilities, because they are many times larger than the
# text.
MAX_LOGPROBS: Final = 64
LOGPROB_BYTES: Final = 40
# An append of this size delays other Redis scripts by a few milliseconds.
MAX_BATCH_BYTES: Final = 262_144


@dataclass(slots=True)
class TextRun:
    """Consecutive pieces of text for one content part, with their log probabilities."""

    place: Place
    pieces: list[str]
    logprobs: list[Any]

    def continues(self, place: Place) -> bool:
        """Returns True if more text for `place` can be added to this run."""
        return self.place == place and len(self.logprobs) < MAX_LOGPROBS

    def entries(self) -> list[bytes]:
        """Returns the text as encoded delta events."""
        place, text = self.place, "".join(self.pieces)
        if place.kind == "output_text" and not self.logprobs and len(text) <= MAX_DELTA_CHARACTERS:
            # Most runs fit into one delta without log probabilities.
            return [encode_text_delta(place.item_id, place.index, place.part, text)]
        starts = range(0, len(text), MAX_DELTA_CHARACTERS)
        return [
            encode_event(
                delta(
                    place,
                    text[start : start + MAX_DELTA_CHARACTERS],
                    None if start else self.logprobs,
                )
            )
            for start in starts
        ]


def batch(entries: Iterable[bytes]) -> list[bytes]:
    """Returns the first entries, up to a total size of `MAX_BATCH_BYTES`.

    The first entry is always included, even if it exceeds this size.
    """
    taken: list[bytes] = []
    size = 0
    for entry in entries:
        size += len(entry)
        if taken and size > MAX_BATCH_BYTES:
            break
        taken.append(entry)
    return taken
