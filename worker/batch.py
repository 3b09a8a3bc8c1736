"""Joins gathered text into deltas, and divides entries into batches for one append each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from jobs.log.codec import encode_event, encode_text_delta
from jobs.log.items import delta

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobs.log.items import Place

# At most four bytes a character, so no delta is larger than 16 KB.
MAX_DELTA_CHARACTERS: Final = 4096
# Log probabilities are many times larger than the text they belong to.
MAX_LOGPROBS: Final = 64
LOGPROB_BYTES: Final = 40
# A script of this size delays other scripts by a few milliseconds.
MAX_BATCH_BYTES: Final = 262_144


@dataclass(slots=True)
class TextRun:
    """Gathered text of one place."""

    place: Place
    pieces: list[str]
    logprobs: list[Any]

    def continues(self, place: Place) -> bool:
        """True if the run takes more text of this place."""
        return self.place == place and len(self.logprobs) < MAX_LOGPROBS

    def entries(self) -> list[bytes]:
        """The text as encoded deltas."""
        place, text = self.place, "".join(self.pieces)
        if place.kind == "output_text" and not self.logprobs and len(text) <= MAX_DELTA_CHARACTERS:
            return [encode_text_delta(place.item_id, place.index, place.part, text)]  # nearly all
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
    """The first entries: at least one if there is one, then up to `MAX_BATCH_BYTES`."""
    taken: list[bytes] = []
    size = 0
    for entry in entries:
        size += len(entry)
        if taken and size > MAX_BATCH_BYTES:
            break
        taken.append(entry)
    return taken
