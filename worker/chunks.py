"""One payload of a chat-completions stream -> what it says.

A payload may hold several things at once: a piece of text and the reason for stopping, or the
usage alone. What has no meaning for an answer (roles, ids, empty deltas) yields nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import jiter

DONE: Final = b"[DONE]"


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer. It can be encoded: no half of a surrogate pair is in it."""

    text: str


@dataclass(frozen=True, slots=True)
class Thinking:
    """The model is at work on something that is not the answer's text."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the provider counted so far, in its own words."""

    counts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stopped:
    """The provider said why it stopped. Only then can an answer be whole."""

    reason: str


Piece = Text | Thinking | Usage | Stopped


class Malformed(Exception):
    """A payload that is not a chunk of a chat completion."""


class ErrorInStream(Exception):
    """The provider sent an error in the place of a chunk; its words are not kept."""


class Chunks:
    """Reads the payloads of one stream, in order."""

    def __init__(self) -> None:
        self._high = ""

    def read(self, payload: bytes) -> list[Piece]:
        """The pieces of a payload that is not `DONE`.

        Raises: Malformed, ErrorInStream.
        """
        chunk = _parse(payload)
        if not isinstance(chunk, dict):
            raise Malformed("not an object")
        if chunk.get("error"):
            raise ErrorInStream
        choices = chunk.get("choices")
        if not isinstance(choices, list):
            raise Malformed("no choices")
        pieces: list[Piece] = []
        if choices:
            self._choice(choices[0], pieces)
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            pieces.append(Usage(usage))
        return pieces

    def _choice(self, choice: Any, pieces: list[Piece]) -> None:
        if not isinstance(choice, dict):
            raise Malformed("a choice that is not an object")
        delta = choice.get("delta") or {}
        if not isinstance(delta, dict):
            raise Malformed("a delta that is not an object")
        reason = choice.get("finish_reason")
        # A refusal is what the model answers: for whom it is written, it is text.
        text = delta.get("content") or delta.get("refusal") or ""
        if not isinstance(text, str) or not isinstance(reason, str | None):
            raise Malformed("text or reason that is not a string")
        text = self._encodable(text, last=reason is not None)
        if text:
            pieces.append(Text(text))
        elif delta.get("reasoning_content") or delta.get("reasoning") or delta.get("tool_calls"):
            pieces.append(Thinking())
        if reason:
            pieces.append(Stopped(reason))

    def _encodable(self, text: str, *, last: bool) -> str:
        """The text with each pair of surrogates joined, also across two chunks, and each lone one
        replaced: JSON can escape half a character, UTF-8 cannot write one.
        """
        if not self._high and text.isascii():
            return text
        text, self._high = self._high + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff" and not last:
            text, self._high = text[:-1], text[-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _parse(payload: bytes) -> Any:
    try:
        return jiter.from_json(payload)
    except ValueError:
        pass
    # jiter refuses an escaped half of a surrogate pair, which the standard library accepts.
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise Malformed(type(error).__name__) from None
