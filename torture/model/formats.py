"""The formats of an answer: chat completions and responses, as events and as one body."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Protocol

# An event and its name, which is "" in chat completions.
Event = tuple[str, dict[str, Any]]
_FINISH = {"": "stop", "length": "length", "filter": "content_filter"}
_REASON = {"length": "max_output_tokens", "filter": "content_filter"}


class Format(Protocol):
    """Writes one answer. `stop` is "" for a normal stop, or else `length` or `filter`."""

    def first(self) -> Iterator[Event]:
        """The events before the first piece."""

    def piece(self, text: str) -> Event:
        """The event of a piece."""

    def last(self, text: str, pieces: int, stop: str) -> Iterator[Event]:
        """The events after the last piece."""

    def end(self) -> str:
        """The text after the last event."""

    def error(self, message: str) -> Event:
        """An error in the middle of an answer."""

    def body(self, text: str, pieces: int, stop: str) -> dict[str, Any]:
        """The whole answer as one object."""


def chat_usage(pieces: int) -> dict[str, int]:
    return {"prompt_tokens": 10, "completion_tokens": pieces, "total_tokens": 10 + pieces}


class Chat:
    """Chat completions."""

    def __init__(self, call_id: str, body: dict[str, Any]) -> None:
        self._id = f"chatcmpl-{call_id}"
        self._model = str(body.get("model", ""))
        options = body.get("stream_options")
        self._usage = isinstance(options, dict) and bool(options.get("include_usage"))
        self._created = int(time.time())

    def first(self) -> Iterator[Event]:
        yield self._chunk({"role": "assistant", "content": ""})

    def piece(self, text: str) -> Event:
        return self._chunk({"content": text})

    def last(self, text: str, pieces: int, stop: str) -> Iterator[Event]:
        del text
        yield self._chunk({}, _FINISH[stop])
        if self._usage:
            name, chunk = self._chunk({})
            yield name, {**chunk, "choices": [], "usage": chat_usage(pieces)}

    def end(self) -> str:
        return "data: [DONE]\n\n"

    def error(self, message: str) -> Event:
        return "", {"error": {"message": message, "type": "server_error", "code": "server_error"}}

    def body(self, text: str, pieces: int, stop: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _FINISH[stop]}
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": chat_usage(pieces),
        }

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> Event:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return "", {**self._head("chat.completion.chunk"), "choices": [choice]}


class Responses:
    """The Responses API."""

    def __init__(self, call_id: str, body: dict[str, Any]) -> None:
        self._response_id = f"resp_{call_id}"
        self._item_id = f"msg_{call_id}"
        self._model = str(body.get("model", ""))
        self._number = -1

    def first(self) -> Iterator[Event]:
        yield self._event("response.created", response=self._response("in_progress"))
        yield self._event("response.in_progress", response=self._response("in_progress"))
        item = self._item("in_progress")
        yield self._event("response.output_item.added", output_index=0, item=item)
        yield self._part("response.content_part.added", part=_part(""))

    def piece(self, text: str) -> Event:
        return self._part("response.output_text.delta", delta=text, logprobs=[])

    def last(self, text: str, pieces: int, stop: str) -> Iterator[Event]:
        yield self._part("response.output_text.done", text=text, logprobs=[])
        yield self._part("response.content_part.done", part=_part(text))
        status = "incomplete" if stop else "completed"
        item = self._item(status, text)
        yield self._event("response.output_item.done", output_index=0, item=item)
        yield self._event(f"response.{status}", response=self.body(text, pieces, stop))

    def end(self) -> str:
        return ""

    def error(self, message: str) -> Event:
        return self._event("error", code="server_error", message=message, param=None)

    def body(self, text: str, pieces: int, stop: str) -> dict[str, Any]:
        status = "incomplete" if stop else "completed"
        response = self._response(status)
        response["output"] = [self._item(status, text)]
        response["incomplete_details"] = {"reason": _REASON[stop]} if stop else None
        response["usage"] = {
            "input_tokens": 10,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": pieces,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 10 + pieces,
        }
        return response

    def _event(self, kind: str, **fields: Any) -> Event:
        self._number += 1
        return kind, {"type": kind, "sequence_number": self._number, **fields}

    def _part(self, kind: str, **fields: Any) -> Event:
        place = {"item_id": self._item_id, "output_index": 0, "content_index": 0}
        return self._event(kind, **place, **fields)

    def _item(self, status: str, text: str | None = None) -> dict[str, Any]:
        content = [] if text is None else [_part(text)]
        return {
            "id": self._item_id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        }

    def _response(self, status: str) -> dict[str, Any]:
        return {
            "id": self._response_id,
            "object": "response",
            "created_at": int(time.time()),
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "max_output_tokens": None,
            "metadata": {},
            "model": self._model,
            "output": [],
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "store": False,
            "temperature": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": None,
        }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
