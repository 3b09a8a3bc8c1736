"""Buffers output as deltas and other events, and groups log entries into batches for appends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from jobs.log.codec import encode_event, encode_text_delta
from jobs.log.items import delta

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobs.log.codec import Event
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


class OutputBuffer:
    """The output of a model call that is not yet encoded.

    `size` is in characters, which is accurate enough for a limit on memory. `pieces` is the number
    of pieces of text.
    """

    def __init__(self) -> None:
        self._parts: list[Event | TextRun] = []
        self.size = 0
        self.pieces = 0
        self._has_events = False

    def __bool__(self) -> bool:
        return bool(self._parts)

    @property
    def urgent(self) -> bool:
        """True if the buffer contains anything other than text, or enough text for a delta."""
        return self._has_events or self.size > MAX_DELTA_CHARACTERS

    @property
    def ends_with_text(self) -> bool:
        """True if the last part of the output is text."""
        return bool(self._parts) and isinstance(self._parts[-1], TextRun)

    def add(self, *events: Event) -> None:
        """Adds events."""
        self._parts.extend(events)
        self._has_events = True

    def add_text(self, place: Place, text: str, logprobs: list[Any] | None) -> int:
        """Adds a piece of text, and returns its size. Several pieces may become one delta."""
        last = self._parts[-1] if self._parts else None
        if isinstance(last, TextRun) and last.continues(place):
            last.pieces.append(text)
        else:
            self._parts.append(last := TextRun(place, [text], []))
        size = len(text)
        if logprobs:
            last.logprobs += logprobs
            size += LOGPROB_BYTES * sum(1 + len(token["top_logprobs"]) for token in logprobs)
        self.size += size
        self.pieces += 1
        return size

    def take(self) -> list[bytes]:
        """Empties the buffer, and returns its output as encoded log entries."""
        parts, self._parts = self._parts, []
        self.size = self.pieces = 0
        self._has_events = False
        entries: list[bytes] = []
        for part in parts:
            if isinstance(part, TextRun):
                entries += part.entries()
            else:
                entries.append(encode_event(part))
        return entries


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
