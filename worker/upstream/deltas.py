"""Defines the parts of a model's answer: pieces of output, usage, stop reasons and errors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, Protocol

import jiter

# The maximum depth of a payload. A client must be able to send an item back, and requests have the
# same limit.
MAX_DEPTH: Final = 64


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer's text, without lone surrogates, which UTF-8 cannot encode."""

    text: str
    logprobs: list[dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A piece of the model's refusal to answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of the model's reasoning before its answer.

    Some providers require the reasoning in later requests. `field` is the message field for it, or
    "" if the provider does not require it.
    """

    text: str
    field: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """A piece of a function call.

    `key` identifies the call within the stream. The first piece of a call has the complete name of
    the function, and the call id if the server sends one. Later pieces have neither name nor id.
    `extra_content` is data that the provider requires in later requests.
    """

    key: int
    call_id: str
    name: str
    arguments: str
    extra_content: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Annotation:
    """An annotation of the text so far, such as a URL citation.

    `fields` has the format of the Responses API.
    """

    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class UpstreamEvent:
    """An event of an upstream Responses API, with the upstream's own ids and indexes."""

    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Thinking:
    """A piece of reasoning that is not shown to clients.

    `details` are pieces of `reasoning_details`. The provider requires them in later requests,
    together with the function calls.
    """

    details: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Usage:
    """The token counts of the call so far, under the provider's own field names."""

    counts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stopped:
    """The provider's stop reason, in normalized form. A response without it is never complete."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reported:
    """Members of the upstream's response object with results of its provider."""

    fields: dict[str, Any]


OutputDelta = Text | Refusal | Reasoning | Call | Annotation | UpstreamEvent | Thinking
Delta = OutputDelta | Usage | Stopped | Reported


class WholeAnswer:
    """An answer that arrives at once: a compacted conversation, or a count of tokens."""

    def __init__(self, pieces: list[Delta]) -> None:
        self._pieces = pieces

    async def next(self) -> list[Delta]:
        """Returns all pieces at once, and an empty list afterwards."""
        pieces, self._pieces = self._pieces, []
        return pieces


class Malformed(Exception):
    """A payload or a stream of the endpoint is invalid. The error message never quotes it."""


class TooLong(Exception):
    """The output exceeds its size limit. The part within the limit has been output already."""


class ErrorInStream(Exception):
    """The endpoint sent an error instead of a part of the answer; `error` is its parsed JSON."""

    def __init__(self, error: Any) -> None:
        super().__init__()
        self.error = error


class Answer(Protocol):
    """A model's answer in progress."""

    async def next(self) -> list[Delta]:
        """Returns the next pieces, or an empty list after the last piece.

        Raises: ModelError, which is defined in `model_errors`.
        """
        ...


def parse(payload: bytes) -> Any:
    """Parses a payload as JSON.

    Raises: Malformed if the payload is not JSON or is nested too deeply.
    """
    try:
        value = jiter.from_json(payload)
    except ValueError:
        # The parser jiter refuses escaped lone surrogates, but the parser of the standard library
        # accepts them.
        try:
            value = json.loads(payload)
        except (ValueError, RecursionError) as error:
            raise Malformed(type(error).__name__) from None
    # Most payloads are too short to be nested too deeply.
    if payload.count(b"{") + payload.count(b"[") > MAX_DEPTH and _is_deep(value):
        raise Malformed("nested too deeply")
    return value


def _is_deep(value: Any) -> bool:
    """Returns True if a value is nested deeper than `MAX_DEPTH`."""
    level = [value]
    for _ in range(MAX_DEPTH):
        values = [one.values() if isinstance(one, dict) else one for one in level]
        level = [one for many in values for one in many if isinstance(one, dict | list)]
        if not level:
            return False
    return True


def integer(value: Any) -> int | None:
    """Returns `value` as an int, or None if it is not integral.

    Accepts integers, floats without a fraction, and strings of up to nine digits.
    """
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
