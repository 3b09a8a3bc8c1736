"""The content of a stream's payloads: output, usage, reasons for stopping, and two errors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import jiter


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer. It can be encoded: no half of a surrogate pair is in it."""

    text: str
    logprobs: list[dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A piece of the model's refusal to answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of the model's reasoning before its answer.

    `field` is the field of a message in which the provider wants it back, or "".
    """

    text: str
    field: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """A piece of a call of a function.

    `key` identifies the call within the stream. The first piece of a call has its whole name, and
    its id if the server gives it one; further pieces have neither. `extra_content` is for the
    provider that made the call.
    """

    key: int
    call_id: str
    name: str
    arguments: str
    extra_content: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Annotation:
    """Something about the text so far, in the standard's words: the source of a statement."""

    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class UpstreamEvent:
    """An event of an upstream that speaks the standard itself; ids and indexes are its own."""

    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Thinking:
    """The model is at work on something that cannot be shown.

    `details` are pieces of `reasoning_details`, which the provider wants back with the calls.
    """

    details: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Usage:
    """What the provider counted so far, in its own words."""

    counts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stopped:
    """The provider's reason for stopping, normalized. Only after it can an answer be whole."""

    reason: str


OutputDelta = Text | Refusal | Reasoning | Call | Annotation | UpstreamEvent | Thinking
Delta = OutputDelta | Usage | Stopped


class Malformed(Exception):
    """A payload or a stream that is not that of an answer; the message never quotes it."""


class TooLong(Exception):
    """The answer reached its limit; the part that fits was output."""


class ErrorInStream(Exception):
    """The endpoint sent an error in the place of a payload: `error` is its parsed JSON."""

    def __init__(self, error: Any) -> None:
        super().__init__()
        self.error = error


def parse(payload: bytes) -> Any:
    """Returns the JSON of a payload. Raises: Malformed."""
    try:
        return jiter.from_json(payload)
    except ValueError:
        pass
    # jiter refuses an escaped half of a surrogate pair, which the standard library accepts.
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise Malformed(type(error).__name__) from None


def integer(value: Any) -> int | None:
    """Returns a whole number, also one that is written as a float or as text, or None."""
    match value:
        case bool():
            return None
        case int():
            return value
        case float() if value.is_integer():
            return int(value)
        case str() if value.isdecimal() and len(value) < 10:
            return int(value)
        case _:
            return None
