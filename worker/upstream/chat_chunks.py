"""One payload of a chat-completions stream -> what it says.

A payload may hold several things at once: a piece of text and the reason for stopping, or the
usage alone. What has no meaning for an answer (roles, ids, empty deltas) yields nothing.

Servers differ where the format's documents are silent. Reasoning has three names and, at one of
them, a shape of its own inside `content`; calls come without an index, without an id, with all
their arguments at once, or with arguments that are no string.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

import jiter

from .fast_text import decode_text

DONE: Final = b"[DONE]"


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
    """A piece of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A piece of a call of a function.

    `key` tells the calls of a stream apart; what is "" is not told by this piece.
    """

    key: int
    call_id: str
    name: str
    arguments: str


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
    """The model is at work on something that cannot be shown."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the provider counted so far, in its own words."""

    counts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stopped:
    """The provider said why it stopped. Only then can an answer be whole."""

    reason: str


OutputDelta = Text | Refusal | Reasoning | Call | Annotation | UpstreamEvent | Thinking
Delta = OutputDelta | Usage | Stopped


class Malformed(Exception):
    """A payload that is not a chunk of a chat completion."""


class ErrorInStream(Exception):
    """The provider sent an error in the place of a chunk; its words are not kept."""


class ChatChunkReader:
    """Reads the payloads of one stream, in order."""

    def __init__(self) -> None:
        self._text = _SurrogateJoiner()
        self._thought = _SurrogateJoiner()
        self._calls = _Calls()

    def fast_text(self, payload: bytes) -> str | None:
        """The text of a payload that says nothing else, as nearly all do. None: see `read`."""
        return None if self._text.high else decode_text(payload)

    def read(self, payload: bytes) -> list[Delta]:
        """The pieces of a payload that is not `DONE`.

        Raises: Malformed, ErrorInStream.
        """
        chunk = parse(payload)
        if not isinstance(chunk, dict):
            raise Malformed("not an object")
        if chunk.get("error"):
            raise ErrorInStream
        choices = chunk.get("choices")
        if not isinstance(choices, list):
            raise Malformed("no choices")
        pieces: list[Delta] = []
        if choices:
            self._choice(choices[0], pieces)
        if isinstance(usage := chunk.get("usage") or _groq(chunk), dict):
            pieces.append(Usage(usage))
        return pieces

    def _choice(self, choice: Any, pieces: list[Delta]) -> None:
        if not isinstance(choice, dict):
            raise Malformed("a choice that is not an object")
        delta = choice.get("delta") or {}
        if not isinstance(delta, dict):
            raise Malformed("a delta that is not an object")
        reason = choice.get("finish_reason")
        if not isinstance(reason, str | None):
            raise Malformed("a reason that is not a string")
        last = reason is not None
        text, thought = _content(delta)
        if thought := self._thought.joined(thought, last=last):
            pieces.append(Reasoning(thought))
        if text := self._text.joined(text, last=last):
            pieces.append(Text(text, _logprobs(choice.get("logprobs"))))
        if refusal := _string(delta, "refusal"):
            pieces.append(Refusal(encodable(refusal)))
        pieces += self._calls.read(delta)
        pieces += _annotations(delta.get("annotations"))
        if not pieces and delta.get("reasoning_details"):
            pieces.append(Thinking())
        if reason:
            pieces.append(Stopped(reason))


@dataclass(slots=True)
class _SurrogateJoiner:
    """Joins each pair of surrogates, also across two pieces, and replaces each lone one: JSON can
    escape half a character, UTF-8 cannot write one.
    """

    high: str = ""  # the half that waits for the other one

    def joined(self, text: str, *, last: bool) -> str:
        """The text, with the half that the piece before it has left."""
        if not self.high and text.isascii():
            return text
        text, self.high = self.high + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff" and not last:
            text, self.high = text[:-1], text[-1]
        return encodable(text)


@dataclass(slots=True)
class _Calls:
    """Tells the calls of a stream apart, whatever the server says of them."""

    _number: int = -1
    _by_index: dict[int, int] = field(default_factory=dict)
    _ids: dict[int, str] = field(default_factory=dict)
    _joiners: dict[int, _SurrogateJoiner] = field(default_factory=dict)

    def read(self, delta: dict[str, Any]) -> list[Delta]:
        calls = delta.get("tool_calls") or []
        if not isinstance(calls, list):
            raise Malformed("calls that are not a list")
        return [self._call(call) for call in calls]

    def _call(self, call: Any) -> Call:
        if not isinstance(call, dict):
            raise Malformed("a call that is not an object")
        function = call.get("function") or {}
        if not isinstance(function, dict):
            raise Malformed("a function that is not an object")
        call_id, name = _string(call, "id"), _string(function, "name")
        arguments = function.get("arguments") or ""
        if isinstance(arguments, dict):
            arguments = json.dumps(arguments)  # one family sends the object itself
        if not isinstance(arguments, str):
            raise Malformed("arguments that are not a string")
        key = self._key(call.get("index"), call_id, name)
        arguments = self._joiners.setdefault(key, _SurrogateJoiner()).joined(arguments, last=False)
        return Call(key, encodable(call_id), encodable(name), arguments)

    def _key(self, index: Any, call_id: str, name: str) -> int:
        """A new number for a new call: one of an index, or an id, that was not there before."""
        known = self._by_index.get(index) if isinstance(index, int) else None
        if known is None and not isinstance(index, int) and self._number >= 0:
            known = next((key for key, id_ in self._ids.items() if call_id == id_), None)
            if known is None and not call_id and not name:
                known = self._number
        another = known is not None and call_id and self._ids.get(known, "") not in ("", call_id)
        if known is None or another:
            self._number += 1
            known = self._number
        if isinstance(index, int):
            self._by_index[index] = known
        if call_id:
            self._ids[known] = call_id
        return known


def _content(delta: dict[str, Any]) -> tuple[str, str]:
    """The text and the reasoning of a delta."""
    content = delta.get("content") or ""
    # The same reasoning may be there under two names.
    thought = _string(delta, "reasoning_content") or _string(delta, "reasoning")
    if isinstance(content, str):
        return content, thought
    if not isinstance(content, list):
        raise Malformed("content that is neither a string nor a list")
    text = ""
    for part in content:
        if not isinstance(part, dict):
            raise Malformed("a part that is not an object")
        if isinstance(inner := part.get("thinking"), list):
            thought += "".join(_string(one, "text") for one in inner if isinstance(one, dict))
        else:
            text += _string(part, "text")
    return text, thought


def _groq(chunk: dict[str, Any]) -> Any:
    """The usage where Groq has it."""
    own = chunk.get("x_groq")
    return own.get("usage") if isinstance(own, dict) else None


def _string(holder: dict[str, Any], name: str) -> str:
    value = holder.get(name) or ""
    if not isinstance(value, str):
        raise Malformed(f"{name} that is not a string")
    return value


def encodable(text: str) -> str:
    """The text with each half of a character that has no other half replaced."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _logprobs(given: Any) -> list[dict[str, Any]] | None:
    content = given.get("content") if isinstance(given, dict) else None
    if not isinstance(content, list) or not all(isinstance(one, dict) for one in content):
        return None
    return [
        _logprob(one) | {"top_logprobs": [_logprob(top) for top in one.get("top_logprobs") or ()]}
        for one in content
    ] or None


def _logprob(given: dict[str, Any]) -> dict[str, Any]:
    value = given.get("logprob")
    encoded = given.get("bytes")
    return {
        "token": encodable(str(given.get("token", ""))),
        "logprob": float(value) if isinstance(value, int | float) else 0.0,
        "bytes": encoded if isinstance(encoded, list) else [],
    }


def _annotations(given: Any) -> list[Delta]:
    """Sources on the web; the standard has them flat, chat completions nested."""
    pieces: list[Delta] = []
    for one in given if isinstance(given, list) else ():
        cited = one.get("url_citation") if isinstance(one, dict) else None
        if isinstance(cited, dict) and isinstance(cited.get("url"), str):
            where = {name: _index(cited.get(name)) for name in ("start_index", "end_index")}
            title = encodable(str(cited.get("title") or ""))
            url = encodable(cited["url"])
            pieces.append(Annotation({"type": "url_citation", **where, "url": url, "title": title}))
    return pieces


def _index(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def parse(payload: bytes) -> Any:
    """The JSON of a payload. Raises: Malformed."""
    try:
        return jiter.from_json(payload)
    except ValueError:
        pass
    # jiter refuses an escaped half of a surrogate pair, which the standard library accepts.
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise Malformed(type(error).__name__) from None
