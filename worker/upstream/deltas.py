"""Types for the content of a stream: pieces of output, usage, stop reasons and errors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import jiter


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer's text. It has no lone surrogates, so it can be encoded."""

    text: str
    logprobs: list[dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A piece of the model's refusal to answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of the model's reasoning before its answer.

    `field` is the message field in which the provider requires it in later requests, or "".
    """

    text: str
    field: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """A piece of a function call.

    `key` identifies the call within the stream. The first piece of a call has its complete name,
    and its id if the server sends one; further pieces have neither. `extra_content` is data that
    the provider requires in later requests.
    """

    key: int
    call_id: str
    name: str
    arguments: str
    extra_content: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Annotation:
    """An annotation of the text so far, such as a URL citation, as in the Responses API."""

    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class UpstreamEvent:
    """An event of a Responses API upstream, with the upstream's own ids and indexes."""

    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Thinking:
    """A piece of reasoning that is not shown to clients.

    `details` are pieces of `reasoning_details`, which the provider requires in later requests
    together with the calls.
    """

    details: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Usage:
    """The token counts so far, under the provider's own field names."""

    counts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stopped:
    """The provider's stop reason, normalized. A response without one is never complete."""

    reason: str


OutputDelta = Text | Refusal | Reasoning | Call | Annotation | UpstreamEvent | Thinking
Delta = OutputDelta | Usage | Stopped


class Malformed(Exception):
    """A payload or a stream is not a valid response. The message never quotes it."""


class TooLong(Exception):
    """The output exceeds its size limit. The part that fits was output."""


class ErrorInStream(Exception):
    """The endpoint sent an error in place of a payload; `error` is its parsed JSON."""

    def __init__(self, error: Any) -> None:
        super().__init__()
        self.error = error


def parse(payload: bytes) -> Any:
    """Parses a payload as JSON. Raises: Malformed."""
    try:
        return jiter.from_json(payload)
    except ValueError:
        pass
    # jiter refuses escaped lone surrogates, which the standard library accepts.
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise Malformed(type(error).__name__) from None


def integer(value: Any) -> int | None:
    """Returns the value of an integer, an integral float or such a string as an int, or None."""
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
