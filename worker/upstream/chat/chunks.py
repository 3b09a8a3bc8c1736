"""Reads the payloads of a chat-completions stream.

A payload may have several parts, for example a piece of text and the stop reason, or only the
usage. Parts that do not matter for the response yield nothing: roles, ids, empty deltas and pings.

Servers differ in details that the documentation of the format does not specify. Reasoning has
several field names, and some servers put it into `content` in their own format. Some servers use
`message` or `text` instead of `delta`, or send a complete chat completion although a stream was
requested. The module `calls` assembles function calls from their pieces.

A stop reason alone does not make a response complete. The reader passes on a stop reason only if it
has understood the whole stream so far, and `end` rejects a stream with unused fragments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from worker.upstream.deltas import (
    Annotation,
    Delta,
    ErrorInStream,
    Malformed,
    Reasoning,
    Refusal,
    Stopped,
    Text,
    Thinking,
    Usage,
)
from worker.upstream.finish_reasons import normalized
from worker.upstream.payload import object_of
from worker.upstream.provider_data import provider_data
from worker.upstream.surrogates import SurrogateJoiner, encodable

from .calls import CallAssembler, string
from .fast_text import take_texts

if TYPE_CHECKING:
    from collections import deque

# The fields of a delta that are read. If a response has no output, and other fields of its deltas
# have values, the response was not understood.
_KNOWN: Final = frozenset(
    {
        "annotations",
        "content",
        "function_call",
        "reasoning",
        "reasoning_content",
        "reasoning_details",
        "reasoning_text",
        "refusal",
        "role",
        "thinking",
        "thinking_blocks",
        "tool_calls",
    }
)
# The fields for reasoning in the order of preference. DeepSeek requires `reasoning_content` again
# in later requests, together with the calls of the same turn.
_REASONING: Final = ("reasoning_content", "reasoning")
_THOUGHTS: Final = (*_REASONING, "reasoning_text", "thinking", "thinking_blocks")
_CALLED: Final = b'{"choices":[{"finish_reason":"tool_calls"}]}'
# The names that servers use for the field with the stop reason.
_REASONS: Final = ("finish_reason", "finishReason", "stop_reason", "stopReason", "done_reason")
# The stop reasons of a complete response.
_ENDS: Final = ("stop", "tool_calls")


class ChatChunkReader:
    """Reads the payloads of one stream, in order.

    `functions` are the names of the functions that the request defines.
    """

    def __init__(self, functions: frozenset[str] = frozenset()) -> None:
        self._text = SurrogateJoiner()
        self._thought = SurrogateJoiner()
        self._refusal = SurrogateJoiner()
        self._reasoning = ""
        self._calls = CallAssembler(functions)
        self._messages = _Messages()
        self._index: Any = None
        self.answer_id: Any = None  # the endpoint's id of the answer
        self._understood = False  # True if a known field was received
        self._unread = False  # True if an unknown field had a value
        self._has_output = False
        # A stop reason that has been received, but not passed on yet.
        self._reason: str | None = None
        self._cut: str | None = None
        self._stopped = False  # True if a stop reason was passed on

    def fast_texts(self, payloads: deque[bytes]) -> list[str]:
        """Removes the first payloads that contain only text, and returns their texts.

        The next payload, if any, must be read with `read`.
        """
        texts = [] if self._text.high else take_texts(payloads)
        self._has_output = self._has_output or bool(texts)
        return texts

    def read(self, payload: bytes) -> list[Delta]:
        """Returns the pieces in a payload, which must not be the `[DONE]` at the end of the stream.

        Raises: Malformed, ErrorInStream.
        """
        if (chunk := object_of(payload)) is None:
            return []
        self.answer_id = self.answer_id or chunk.get("id")
        choices = chunk.get("choices")
        if not isinstance(choices, list | None):
            raise Malformed("choices is not a list")
        pieces: list[Delta] = []
        usage = chunk.get("usage") or _groq(chunk)
        for number, choice in enumerate(choices or ()):
            if choice is None:
                continue
            if not isinstance(choice, dict):
                raise Malformed("a choice is not an object")
            usage = usage or choice.get("usage")  # Moonshot sends the usage in the choice
            index = choice.get("index") or 0
            if self._index is None:
                self._index = 0 if self._has_output else index  # `fast_texts` reads only choice 0
            if not number or index == self._index:
                self._choice(choice, pieces, second=index != self._index)
            elif isinstance(message := choice.get("message"), dict) and not self._calls.seen:
                # GitHub Copilot puts the text of an answer into one choice, and its function calls
                # into another.
                self._choice({"message": {"tool_calls": message.get("tool_calls")}}, pieces)
        if "choices" in chunk and (beside := {k: chunk[k] for k in _REASONS if chunk.get(k)}):
            # Some servers send the stop reason next to `choices`.
            self._choice(beside, pieces)
        if isinstance(usage, dict):
            pieces.append(Usage(usage))
        return pieces

    def done(self) -> list[Delta]:
        """Handles `[DONE]` at the end of the stream, and returns its pieces.

        NVIDIA NIM omits the stop reason after the function calls of some models. Therefore complete
        calls end the response even without a stop reason. A text always needs a stop reason,
        because gateways also send `[DONE]` after a truncated stream, and a truncated text looks
        complete.
        """
        if self._stopped or self._reason is not None or not self._calls.whole:
            return []
        return self.read(_CALLED)

    def end(self) -> list[Delta]:
        """Ends the stream.

        Raises: Malformed if a part of the stream was not understood.
        """
        whole = self._is_whole(self._reason) and (self._reason is not None or self._is_answer())
        if self._cut is None and not whole:
            raise Malformed("the stream is not a complete chat completion")
        return []

    def _choice(self, choice: dict[str, Any], pieces: list[Delta], *, second: bool = False) -> None:
        if choice.get("error"):
            raise ErrorInStream(choice)
        reason = _reason(choice)
        delta = self._delta(choice, last=reason is not None)
        before = len(pieces)
        self._content(delta, choice, pieces, last=reason is not None)
        added = pieces[before:]
        if second and self._has_output and any(isinstance(one, Text) for one in added):
            raise Malformed("more than one choice has text")
        self._has_output = self._has_output or any(not isinstance(one, Thinking) for one in added)
        self._reason = reason or self._reason
        if self._reason is None:
            return
        if flushed := self._calls.flush(complete=self._reason in _ENDS):
            self._has_output = True
            pieces += flushed
        if self._is_whole(self._reason):
            # If a stop reason reports a truncated response, it stays valid even if the stop reason
            # "stop" follows.
            self._cut = self._cut or (self._reason if self._reason not in _ENDS else None)
            pieces.append(Stopped(self._cut or self._reason))
            self._stopped, self._reason = True, None

    def _content(
        self, delta: dict[str, Any], choice: dict[str, Any], pieces: list[Delta], *, last: bool
    ) -> None:
        text, thought, refusal, called = self._parts(delta)
        if thought := self._thought.joined(thought, last=last):
            if not self._reasoning:
                self._reasoning = next((name for name in _REASONING if delta.get(name)), "")
            pieces.append(Reasoning(thought, self._reasoning))
        if text := self._text.joined(text, last=last):
            pieces.append(Text(text, _logprobs(choice.get("logprobs"))))
        if refusal := self._refusal.joined(refusal, last=last):
            pieces.append(Refusal(refusal))
        if calls := delta.get("tool_calls") or called:
            pieces += self._calls.read(calls)
        elif legacy := delta.get("function_call"):
            # `function_call` is the older form of a call, which some servers send in addition to
            # `tool_calls`.
            pieces += self._calls.read_legacy(legacy)
        pieces += _annotations(delta.get("annotations"))
        details = delta.get("reasoning_details")
        if isinstance(details, list) and (known := list(filter(None, map(provider_data, details)))):
            pieces.append(Thinking(known))

    def _parts(self, delta: dict[str, Any]) -> tuple[str, str, str, list[Any]]:
        """Returns the text, the reasoning, the refusal and the calls of a delta."""
        # Only the first field with reasoning is read, because some servers send the same reasoning
        # in several fields.
        thought = ""
        for name in _THOUGHTS:
            if name in delta and (thought := _thought(delta[name])):
                break
        text, refusal, calls = "", string(delta, "refusal"), []
        content = delta.get("content") or ""
        for part in content if isinstance(content, list) else [content]:
            match part:
                case str():
                    text += part
                case {"type": "tool_use"}:
                    calls.append(part)
                case {"type": "reasoning" | "thinking"} | {"thinking": _}:
                    thought += _thought(part)
                case {"refusal": str(said)}:
                    refusal += said
                case {"text": said} | {"content": said}:
                    # In the format of the Assistants API, the text is in an object.
                    text += string(said if isinstance(said, dict) else {"value": said}, "value")
                case dict():
                    self._unread = True
                case _:
                    raise Malformed("content is neither a string, a part nor a list of parts")
        return text, thought, refusal, calls

    def _delta(self, choice: dict[str, Any], *, last: bool) -> dict[str, Any]:
        """Returns the delta of a choice.

        If the choice has no delta, the delta is built from its field `message` or `text`.
        """
        delta = choice.get("delta") or {}
        if not isinstance(delta, dict):
            raise Malformed("a delta is not an object")
        if delta.get("error"):
            raise ErrorInStream(choice)
        has_value = any(value for name, value in delta.items() if name != "role")
        if not has_value and isinstance(message := choice.get("message"), dict):
            if not self._has_output or self._messages.begun:
                delta = self._messages.delta(message, last=last)
            elif message.get("tool_calls"):
                # The message repeats function calls of earlier deltas. Only the calls that were
                # incomplete in those deltas are read again.
                message = {"tool_calls": self._calls.untold(message["tool_calls"])}
                delta = _Messages().delta(message, last=last)
        elif not has_value and isinstance(text := choice.get("text"), str):
            delta = {"content": text}
        self._understood = self._understood or not _KNOWN.isdisjoint(delta)
        if not (self._unread or _KNOWN.issuperset(delta)):
            self._unread = any(
                value for name, value in delta.items() if name not in (*_KNOWN, *_REASONS)
            )
        return delta

    def _is_answer(self) -> bool:
        """Returns True if the stream contained an answer. The answer may be empty."""
        return self._has_output or (self._understood and not self._unread)

    def _is_whole(self, reason: str | None) -> bool:
        """Returns True if a response with this stop reason is complete."""
        if reason not in _ENDS:
            return reason is not None or not self._calls.leftovers
        if self._calls.leftovers or (reason == "tool_calls" and not self._calls.seen):
            return False
        return self._is_answer()


def _reason(choice: dict[str, Any]) -> str | None:
    """Returns the stop reason of a choice.

    Some servers put the stop reason into the delta or the message of the choice.

    In vLLM, `stop_reason` is the stop string that was found in the text. Next to a `finish_reason`
    it is therefore used only if it is a known stop reason.
    """
    for holder in (choice, choice.get("delta"), choice.get("message")):
        if not isinstance(holder, dict):
            continue
        for name in _REASONS:
            given = holder.get(name)
            if not given or (name != "finish_reason" and not isinstance(given, str)):
                continue
            reason = normalized(given)
            matched = name != "finish_reason" and "finish_reason" in choice
            if reason is not None and not (reason == "unknown" and matched):
                return reason
    return None


class _Messages:
    """Converts messages to deltas.

    A message contains either the next piece of the text or the whole text so far.
    """

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self.begun = False

    def delta(self, message: dict[str, Any], *, last: bool) -> dict[str, Any]:
        """Returns the new content of a message as a delta.

        `last` is True for the last message, which is complete.
        """
        self.begun = True
        new = dict(message)
        for name, value in message.items():
            if name in ("content", "reasoning_content", "reasoning", "refusal") and isinstance(
                value, str
            ):
                new[name] = self._new(name, value, last=last)
        if isinstance(calls := message.get("tool_calls"), list):
            new["tool_calls"] = [
                {"index": index, **call} if isinstance(call, dict) else call
                for index, call in enumerate(calls)
            ]
        return new

    def _new(self, name: str, value: str, *, last: bool) -> str:
        before = self._texts.get(name, "")
        if value.startswith(before) and (last or len(value) > len(before)):
            self._texts[name] = value
            return value[len(before) :]
        self._texts[name] = before + value
        return value


def _thought(value: Any) -> str:
    """Returns the text of reasoning that has one of the known forms.

    The forms are a string, a list of parts (Mistral), a summary (Databricks) and an object
    (Bedrock).
    """
    match value:
        case str():
            return value
        case dict():
            named = (value.get(name) for name in ("text", "thinking", "summary", "content"))
            return next(filter(None, map(_thought, named)), "")
        case list():
            return "".join(map(_thought, value))
        case None:
            return ""
        case _:
            raise Malformed("reasoning is not text")


def _groq(chunk: dict[str, Any]) -> Any:
    """Returns the usage in the field `x_groq`, which only the provider Groq sends."""
    own = chunk.get("x_groq")
    return own.get("usage") if isinstance(own, dict) else None


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
    """Converts the URL citations of a chat completion to annotations of the Responses API."""
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
