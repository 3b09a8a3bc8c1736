"""Collects the pieces of one function call of a chat-completions stream."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from worker.upstream.deltas import Call, TooLong
from worker.upstream.surrogates import SurrogateJoiner

from .object_scanner import ObjectScanner

# The maximum size of calls that cannot be passed on yet, for example because their name is missing.
MAX_HELD_BYTES: Final = 4_000_000


@dataclass(slots=True)
class PartialCall:
    """A call that is not complete yet.

    `held` is the part of its arguments that has not been passed on yet.
    """

    key: int
    call_id: str = ""
    name: str = ""
    extra_content: dict[str, Any] | None = None  # provider data that is not passed on yet
    announced: bool = False
    arguments: list[str] = field(default_factory=list)
    # The last of two or more pieces that may each repeat all arguments so far, or empty.
    grown: str = ""
    # The lengths of the pieces that may each repeat all arguments so far.
    lengths: list[int] = field(default_factory=list)
    held: str = ""
    rest: str = ""  # the text that follows the complete arguments
    # The id of a piece that repeated the name after the arguments were complete.
    pending_id: str | None = None
    # The earlier call that this call may repeat, as long as the two do not differ.
    repeats: PartialCall | None = None
    scanner: ObjectScanner = field(default_factory=ObjectScanner)
    joiner: SurrogateJoiner = field(default_factory=SurrogateJoiner)

    def add(self, text: str) -> None:
        """Adds the next piece of the arguments.

        Raises: TooLong.
        """
        if text and len(self.arguments) == 1 and self.scanner.begun and not self.scanner.complete:
            before = self.grown or self.arguments[0]
            if text.startswith(before):
                self.lengths.append(len(text))
                self.grown = text
                return
            self.settle(last=False)
        self._append(text)

    def settle(self, *, last: bool) -> None:
        """Decides how to add pieces that may each repeat all arguments so far.

        If `last` is True and the last piece is an object, it replaces the other pieces. Otherwise
        the pieces are joined.

        Raises: TooLong.
        """
        grown, lengths = self.grown, self.lengths
        self.grown, self.lengths = "", []
        if last and _is_object(grown):
            self._append(grown[len(self.arguments[0]) :])
        elif sum(lengths) > MAX_HELD_BYTES:
            raise TooLong
        else:
            for length in lengths:
                self._append(grown[:length])

    def _append(self, text: str) -> None:
        end = self.scanner.end(text)
        # Only another object after the arguments can be a repetition. Any other text is an error of
        # the model and stays a part of the arguments.
        if end < len(text) and not self.rest and not text[end:].lstrip().startswith("{"):
            end = len(text)
        head, self.rest = text[:end], self.rest + text[end:]
        if head:
            self.arguments.append(head)
            self.held += head

    def announce(self) -> Call:
        """Marks the call as announced, and returns the first piece of the call."""
        self.announced = True
        extra, self.extra_content = self.extra_content, None
        return Call(self.key, self.call_id, self.name, "", extra)

    @property
    def whole(self) -> str:
        return "".join(self.arguments)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
