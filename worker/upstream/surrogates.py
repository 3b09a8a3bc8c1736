"""Halves of characters: JSON can escape one half of a surrogate pair, UTF-8 cannot write it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class SurrogateJoiner:
    """Joins surrogate pairs, also across two pieces of a text, and replaces each lone surrogate."""

    high: str = ""  # the half that waits for the other one

    def joined(self, text: str, *, last: bool = False) -> str:
        """Returns the text, with the half that the piece before it has left."""
        if not self.high and text.isascii():
            return text
        text, self.high = self.high + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff" and not last:
            text, self.high = text[:-1], text[-1]
        return encodable(text)


def encodable(text: str) -> str:
    """Returns the text with each lone surrogate replaced."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
