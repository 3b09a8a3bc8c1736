"""The events of a case in the order of time, for its report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

# The limit keeps a case with endless events from filling the memory.
MAX_ENTRIES: Final = 20_000
_MAX_TEXT: Final = 400


@dataclass(frozen=True)
class Entry:
    """One event.

    Attributes:
        at: seconds since the case began.
        who: a client, a process, or a call of the model.
        kind: `sent`, `arrived`, `lost`, `model` or `fault`.
    """

    at: float
    who: str
    kind: str
    text: str


@dataclass
class Timeline:
    """The events of one case."""

    entries: list[Entry] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def add(self, who: str, kind: str, text: str) -> None:
        """Adds an event that happens now. Long texts are shortened."""
        if len(self.entries) < MAX_ENTRIES:
            shown = text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 3]}..."
            self.entries.append(Entry(time.monotonic() - self.began, who, kind, shown))

    def redact(self, redacted: Callable[[str], str]) -> None:
        """Replaces the keys in all texts."""
        self.entries = [replace(one, text=redacted(one.text)) for one in self.entries]

    def merged(self) -> list[Entry]:
        """Returns the events, with each run of similar pieces as one entry."""
        merged: list[Entry] = []
        count, last = 0, ""
        for entry in self.entries:
            piece = entry.text.startswith(PIECE)
            before = merged[-1] if merged else None
            if piece and before and (before.who, before.kind) == (entry.who, entry.kind) and count:
                count += 1
                last = entry.text[len(PIECE) :]
                first = before.text.removeprefix(PIECE).partition(" ... ")[0]
                text = f"{PIECE}{first} ... {last} ({count} pieces)"
                merged[-1] = Entry(before.at, before.who, before.kind, text)
            else:
                merged.append(entry)
                count = 1 if piece else 0
        return merged


# The beginning of the text of an entry that merges with its neighbours of the same kind.
PIECE: Final = "piece "
