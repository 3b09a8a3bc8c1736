"""Asks a model to continue the text of an interrupted call, and joins the reply to the text.

The request is the original one with the text as the last message. The whitespace at the end of the
text is not sent, because chat templates remove it and some endpoints refuse it. The reply is joined
to the text only in these cases:

- The reply begins with the whole text, as Mistral's does. The repetition is removed.
- The reply begins with the whitespace that was not sent, which is removed.

In these cases, `Broken` is raised and the response restarts:

- The reply begins with the first `MIN_OVERLAP` or more characters of the text, and then differs: it
  is a different answer.
- The reply begins with the last `MIN_OVERLAP` or more characters of the text. They may be repeated
  by mistake, or belong to the answer.
- The reply begins with the whole text, but the text itself repeats a shorter text.

These comparisons ignore case, Unicode normalization, and whitespace at the beginning and its kind,
because an endpoint that repeats the text may have normalized it. A text of fewer than `MIN_OVERLAP`
characters is not continued, because a repetition of it could not be recognized.
`docs/decisions/continued-text.md` explains the rules.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from jobs.checkpoint import Checkpoint
from worker.upstream.deltas import Reasoning, Reported, Text, Thinking, Usage
from worker.upstream.model_errors import Broken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobs.config.models import Continues
    from worker.upstream.deltas import Answer, Delta

# Two texts of this many characters are not equal by chance.
MIN_OVERLAP: Final = 32
# A repetition of the end of the text is recognized if it has at most this many characters.
MAX_OVERLAP: Final = 1024
# The maximum number of characters of the reply that are held back. A longer reply that is still
# uncertain, such as whitespace, is not joined.
MAX_HELD: Final = 4 * MAX_OVERLAP
_SPACES: Final = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Continuation:
    """The text that a model has to continue.

    `model` is the model's name in the models file, and `upstream_model` its name at the endpoint.
    `tokens` is an estimate of the output tokens so far. `earlier` lists the size in bytes of the
    output of each earlier call.
    """

    model: str
    text: str
    tokens: int
    earlier: tuple[int, ...] = ()
    upstream_model: str = ""

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint of the text, which stays the same while the model continues it."""
        return Checkpoint(self.model, upstream_model=self.upstream_model)

    @property
    def sent(self) -> str:
        """The text without whitespace at its end, which is sent to the endpoint."""
        return self.text.rstrip()


def is_long_enough(text: str) -> bool:
    """Returns True if the text is long enough to be continued."""
    return len(text.strip()) >= MIN_OVERLAP


def continued(
    arguments: dict[str, Any], continuation: Continuation, kind: Continues, limit: str
) -> tuple[dict[str, Any], frozenset[str]]:
    """Returns the arguments of a chat completion that continues the text.

    `limit` is the name of the argument that limits the output. Also returns the names of the
    arguments without which the endpoint would begin a new answer.
    """
    last: dict[str, Any] = {"role": "assistant", "content": continuation.sent}
    more: dict[str, Any] = {}
    if kind == "vllm":
        more = {"continue_final_message": True, "add_generation_prompt": False}
    elif kind == "prefix":
        last["prefix"] = True
    if limit in arguments:
        more[limit] = max(arguments[limit] - continuation.tokens, 1)
    more["messages"] = [*arguments["messages"], last]
    return arguments | more, frozenset(more)


class Joiner:
    """Joins the reply of the model to the text that it continues."""

    def __init__(self, continuation: Continuation) -> None:
        self._text = continuation.text
        self._sent = len(continuation.sent)
        self._beginning = _folded(continuation.text.lstrip()[:MAX_HELD])[:MIN_OVERLAP]
        self._end = _folded(continuation.sent[-MAX_HELD:])[-MAX_OVERLAP:]
        # While the reply repeats the text from its beginning, only the length is kept.
        self._repeated = 0
        self._held = ""
        self.joined = False  # True if all further pieces extend the text

    def feed(self, piece: str) -> str:
        """Takes the next piece of the reply, and returns the part that extends the text.

        Raises: Broken if the reply may not be the rest of the text.
        """
        if self.joined:
            return piece
        text, start = self._text, self._repeated
        if not self._held:
            if text.startswith(piece, start) and start + len(piece) < len(text):
                self._repeated += len(piece)
                return ""
            if piece.startswith(text[start:]):
                if _is_repetition(text):
                    raise _different()
                return self._join(piece[len(text) - start :])
            piece, self._repeated = text[:start] + piece, 0
        self._held += piece
        if not self._is_certain():
            return ""
        return self._join(self._held)

    def end(self) -> str:
        """Ends the reply, and returns the part that was still held back. Raises: Broken."""
        if self.joined:
            return ""
        if self._repeated >= self._sent:
            return self._join("")
        if self._repeated >= MIN_OVERLAP:
            raise _different()
        held = self._text[: self._repeated] + self._held
        if self._space.startswith(held):
            return self._join("")  # only whitespace is missing
        return self._join(self._without_space(held))

    @property
    def _space(self) -> str:
        """The whitespace at the end of the text, which the endpoint did not get."""
        return self._text[self._sent :]

    def _is_certain(self) -> bool:
        """Returns True if the held text is the rest of the text, and False if more is needed.

        The held text differs from the beginning of the text. Raises: Broken.
        """
        held = self._held
        folded = _folded(held)
        ends = range(MIN_OVERLAP, min(len(folded), len(self._end)) + 1)
        if (
            folded.startswith(self._beginning)
            or any(self._end.endswith(folded[:size]) for size in ends)
            or len(held) > MAX_HELD + len(self._space)
        ):
            raise _different()
        if self._beginning.startswith(folded) or self._space.startswith(held):
            return False
        if folded in self._end:
            return False
        self._held = self._without_space(held)
        return True

    def _without_space(self, held: str) -> str:
        if not held.startswith(self._space):
            raise _different()
        return held[len(self._space) :]

    def _join(self, rest: str) -> str:
        self.joined, self._held, self._text, self._end = True, "", "", ""
        return rest


def _folded(text: str) -> str:
    """Returns the text in a form for comparisons, which begins with no whitespace."""
    return _SPACES.sub(" ", unicodedata.normalize("NFKD", text).casefold()).lstrip()


def _is_repetition(text: str) -> bool:
    """Returns True if the text consists of a shorter text, at least twice."""
    return (text + text).find(text, 1) < len(text)


def _different() -> Broken:
    return Broken("upstream_malformed", "the reply does not continue the text")


class ContinuedAnswer:
    """An answer that continues a text, without the part of it that repeats the text."""

    def __init__(self, answer: Answer, continuation: Continuation) -> None:
        self._answer = answer
        self._joiner = Joiner(continuation)

    async def next(self) -> list[Delta]:
        """Returns the next pieces that extend the text, or an empty list after the last piece.

        Raises: ModelError.
        """
        while True:
            pieces = await self._answer.next()
            if self._joiner.joined:
                return pieces
            joined = list(self._joined(pieces))
            if joined or not pieces:
                return joined

    def _joined(self, pieces: list[Delta]) -> Iterator[Delta]:
        joiner = self._joiner
        for piece in pieces:
            match piece:
                case Text(text):
                    if rest := joiner.feed(text):
                        yield Text(rest)
                case Reasoning() if not joiner.joined:
                    # Reasoning parsers of endpoints can mistake the rest of the text for reasoning.
                    raise _different()
                case Usage() | Reported() | Thinking():
                    yield piece
                case _:
                    if rest := joiner.end():
                        yield Text(rest)
                    yield piece
