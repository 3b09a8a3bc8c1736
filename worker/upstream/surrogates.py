"""Handles lone surrogates, which JSON can escape but UTF-8 cannot encode."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class SurrogateJoiner:
    """Joins surrogate pairs that are split between two pieces of a text.

    Lone surrogates are replaced.
    """

    high: str = ""  # the high surrogate at the end of the previous piece, or empty

    def joined(self, text: str, *, last: bool = False) -> str:
        """Takes the next piece of a text, and returns the text that can be passed on.

        The text begins with the high surrogate that the previous piece ended with, if there was
        one. A high surrogate at the end of this piece is kept for the next piece, unless this piece
        is the `last` one.
        """
        if not self.high and text.isascii():
            return text
        text, self.high = self.high + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff" and not last:
            text, self.high = text[:-1], text[-1]
        return encodable(text)


def encodable(text: str) -> str:
    """Returns the text, with each lone surrogate replaced by U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
