"""Handles lone surrogates, which JSON can escape but UTF-8 cannot encode."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class SurrogateJoiner:
    """Joins surrogate pairs, also across two pieces of a text, and replaces lone surrogates."""

    high: str = ""  # a high surrogate at the end of the last piece

    def joined(self, text: str, *, last: bool = False) -> str:
        """Returns the text, preceded by the high surrogate that the piece before it ended with.

        A high surrogate at its own end is kept for the next piece, unless this is the `last` one.
        """
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
