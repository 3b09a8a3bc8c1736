"""Lets a model go on from the beginning of an answer, and joins the rest to it.

The request is that of the answer, with the text so far as the last message. Chat templates and
endpoints strip whitespace at the end of that message, and some endpoints refuse it, so it is sent
without. The rest is joined to the text only if that is certain:

- If the endpoint repeats the whole text and goes on, as Mistral does, the repetition is left out.
- Otherwise, the rest must begin with the whitespace that was not sent, which is left out.
- A rest that begins with `MIN_OVERLAP` or more characters of the beginning of the text, and then
  differs, is another answer. A rest that begins with as many characters of the end of the text may
  repeat them or not. So may a repetition of a text that is a repetition itself. None of these is
  joined: `Broken` is raised, and the answer begins again.

Whitespace at the beginning does not count in these comparisons. A text of fewer than `MIN_OVERLAP`
characters does not go on, because a repetition of it could not be recognized.
`docs/decisions/continued-text.md` explains the rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from worker.upstream.deltas import Reasoning, Reported, Text, Thinking, Usage
from worker.upstream.model_errors import Broken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobs.config.models import Continues
    from worker.upstream.deltas import Answer, Delta

# Two texts of this many characters are not equal by chance.
MIN_OVERLAP: Final = 32
# A repetition of the end of the text is recognized if it has at most this many characters. No more
# of the rest is held back.
MAX_OVERLAP: Final = 1024


@dataclass(frozen=True, slots=True)
class Continuation:
    """The text that a model has to go on from, and the model's name in the models file.

    `tokens` is an estimate of the output tokens so far. `earlier` are the sizes in bytes of the
    output that each of the earlier calls has added.
    """

    model: str
    text: str
    tokens: int
    earlier: tuple[int, ...] = ()

    @property
    def sent(self) -> str:
        """The text without whitespace at its end, which is sent to the endpoint."""
        return self.text.rstrip()


def is_long_enough(text: str) -> bool:
    """Returns True if a model may go on from the text."""
    return len(text.strip()) >= MIN_OVERLAP


def continued(
    arguments: dict[str, Any], continuation: Continuation, kind: Continues, limit: str
) -> tuple[dict[str, Any], frozenset[str]]:
    """Returns the arguments of a chat completion that goes on from the text.

    `limit` is the name of the argument that limits the output. Also returns the names of the
    arguments without which the endpoint would begin another answer.
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
    """Joins the rest of an answer to the text that the model goes on from."""

    def __init__(self, continuation: Continuation) -> None:
        self._text = continuation.text
        self._sent = len(continuation.sent)
        self._beginning = continuation.text.lstrip()[:MIN_OVERLAP]
        self._end = continuation.text[-MAX_OVERLAP:]
        # While the rest repeats the text from its beginning, only the length is kept.
        self._repeated = 0
        self._held = ""
        self.joined = False  # True if the next piece follows directly

    def feed(self, piece: str) -> str:
        """Takes the next piece of the rest, and returns what follows the text.

        Raises: Broken if the rest does not go on from the text.
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
        """Ends the rest, and returns what is still held back. Raises: as `feed`."""
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
        """Returns True if what is held back follows the text, and False if more is needed.

        What is held back differs from the beginning of the text. Raises: Broken.
        """
        held, visible = self._held, self._held.lstrip()
        if visible.startswith(self._beginning):
            raise _different()
        ends = range(MIN_OVERLAP, min(len(held), len(self._end)) + 1)
        if any(self._end.endswith(held[:size]) for size in ends):
            raise _different()
        if self._beginning.startswith(visible) or self._space.startswith(held):
            return False
        if held in self._end:
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


def _is_repetition(text: str) -> bool:
    """Returns True if the text consists of a shorter text, at least twice."""
    return (text + text).find(text, 1) < len(text)


def _different() -> Broken:
    return Broken("upstream_malformed", "the answer does not go on from the text")


class ContinuedAnswer:
    """The rest of an answer, joined to the text that the model went on from."""

    def __init__(self, answer: Answer, continuation: Continuation) -> None:
        self._answer = answer
        self._joiner = Joiner(continuation)

    async def next(self) -> list[Delta]:
        """Returns the next pieces that follow the text, or an empty list after the last piece.

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
