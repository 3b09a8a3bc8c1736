"""Reads the payloads of an upstream's Responses stream.

Events about items go to the module `translator`, which rebuilds the items with Holdline's ids and
indexes. From the upstream's last response object, only the output and the members in `REPORTED`
are passed on. Its error message is not passed on, because it may contain anything. A response is
complete only after the last event.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from jobs.log.events import RESTARTED
from jobs.summary import COMPACTION
from worker.upstream.deltas import (
    Delta,
    ErrorInStream,
    Malformed,
    Reported,
    Stopped,
    UpstreamEvent,
    Usage,
    integer,
)
from worker.upstream.finish_reasons import normalized
from worker.upstream.payload import object_of
from worker.upstream.provider_data import storable

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

# The fields of events about output. An event without any of them is a heartbeat, or concerns only
# the upstream's response object.
_PLACED: Final = frozenset({"output_index", "item_id", "item", "delta", "text", "arguments"})


class Position(NamedTuple):
    """A position in the stream of a response, after the event with this sequence number."""

    upstream_id: str
    sequence_number: int


_ENDS: Final = ("completed", "incomplete", "failed", "cancelled")


class ResponsesEventReader:
    """Reads the payloads of one stream, in order.

    With `after`, the stream continues after this position: the endpoint's id of the response, and
    the sequence number of the last event that was read. `on_accepted` is called with the position
    after the first event, if that event has an id and a number.
    """

    def __init__(
        self,
        after: Position | None = None,
        on_accepted: Callable[[Position], None] | None = None,
    ) -> None:
        # Events that only add items and parts are held back until the first output. Before the
        # first output, a fallback model can still take over.
        self._begun: list[Delta] | None = [] if after is None else None
        self._understood = after is not None
        self._on_accepted = on_accepted
        self._upstream_id, self._number = after or ("", -1)
        self._numbered = True  # False if some event had no number, or not the next one
        self._continues = after is not None
        self.ended = False  # True after the event that ends the response

    @property
    def position(self) -> Position | None:
        """The position after the last event, or None if it is unknown."""
        known = self._upstream_id and self._numbered and self._number >= 0
        return Position(self._upstream_id, self._number) if known else None

    @property
    def answer_id(self) -> str:
        """The endpoint's id of the answer, or "" if it is unknown."""
        return self._upstream_id

    @property
    def has_returned_all(self) -> bool:
        """True if no piece of the events so far is held back."""
        return not self._begun

    def continues(self) -> None:
        """The next payloads come from another stream, which continues after `position`."""
        self._continues = True

    def _is_next(self, event: dict[str, Any]) -> bool:
        """Returns False for an event that was read before, from an earlier stream.

        Raises: Malformed if a stream that continues an earlier one lacks an event, or belongs to
        another response.
        """
        if isinstance(response := event.get("response"), dict):
            self._identify(response)
        number = event.get("sequence_number")
        if self._continues:
            if number is not None and number <= self._number:
                return False
            if number != self._number + 1:
                raise Malformed("the stream does not continue after the last event")
        elif self._number >= 0 and number != self._number + 1:
            self._numbered = False
        self._number = number if isinstance(number, int) else -1
        self._numbered = self._numbered and self._number >= 0
        return True

    def _identify(self, response: dict[str, Any]) -> None:
        """Takes the endpoint's id from a response object.

        Raises: Malformed if a stream that continues an earlier one belongs to another response.
        """
        if isinstance(id_ := response.get("id"), str):
            if self._continues and id_ != self._upstream_id:
                raise Malformed("the stream continues with another response")
            self._upstream_id = self._upstream_id or id_

    def fast_texts(self, _payloads: deque[bytes]) -> list[str]:
        """Returns an empty list, because no payload contains only text.

        Unlike in chat completions, each text event also names its item and its part.
        """
        return []

    def read(self, payload: bytes) -> list[Delta]:
        """Returns the pieces of output in a payload.

        Raises: Malformed, ErrorInStream.
        """
        if (event := object_of(payload)) is None:
            return []
        kind = event.get("type")
        if isinstance(kind, str) and (kind.startswith("response.") or "sequence_number" in event):
            try:
                if not self._is_next(event):
                    return []
            except TypeError:
                raise Malformed("a sequence number is not a number") from None
        if "status" in event and (event.get("object") == "response" or "output" in event):
            # The server sent the whole response in one payload, although a stream was requested.
            self._identify(event)
            kind, event = f"response.{event['status']}", {"response": event}
        if kind == "response.done" and isinstance(event.get("response"), dict):
            kind = f"response.{event['response'].get('status')}"
        if kind == RESTARTED and self._begun is None:
            # The endpoint is another Holdline, which has begun its answer again.
            raise Malformed("the output so far is void")
        if not isinstance(kind, str) or not kind.startswith("response."):
            return []
        if not self._understood and self._on_accepted and (position := self.position):
            self._on_accepted(position)
        self._understood = True
        if (end := kind.removeprefix("response.")) in _ENDS:
            return self._end(end, event)
        if not event.keys() & _PLACED:
            # The event concerns only the upstream's response object, is a heartbeat or is unknown.
            return []
        if "item" in event:
            event = {**event, "item": _item(event["item"])}
        passed = UpstreamEvent(_cleaned(event))
        if self._begun is not None and kind.endswith(".added"):
            self._begun.append(passed)
            return []
        return [*self._flushed(), passed]

    def end(self) -> list[Delta]:
        """Ends the stream.

        Raises: Malformed if the stream contained no event of the Responses API.
        """
        if not self._understood:
            raise Malformed("the stream contains no event of the Responses API")
        return []

    def whole(self, body: dict[str, Any]) -> list[Delta]:
        """Returns the pieces of a complete response that was not streamed."""
        return self._end("completed", {"response": body})

    def _end(self, end: str, event: dict[str, Any]) -> list[Delta]:
        self.ended = True
        response = event.get("response")
        # LiteLLM puts the fields of the response object directly into the event.
        body = event | (response if isinstance(response, dict) else {})
        # The status of the response is more reliable than the name of the event.
        if end == "completed" and body.get("status") in _ENDS:
            end = body["status"]
        if end in ("failed", "cancelled") or body.get("error"):
            raise ErrorInStream(body.get("error"))
        pieces = self._flushed()
        if isinstance(counts := body.get("usage"), dict):
            pieces.append(Usage(counts))
        output = body.get("output")
        if not output and isinstance(text := body.get("output_text"), str):
            output = [{"type": "message", "role": "assistant", "content": text}] if text else []
        listed = [_item(storable(one)) for one in output] if isinstance(output, list) else []
        pieces.append(UpstreamEvent({"type": f"response.{end}", "output": listed}))
        if reported := _reported(body):
            pieces.append(Reported(reported))
        details = body.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        cut = normalized(reason) or "unknown"
        pieces.append(Stopped("stop" if end == "completed" else cut))
        return pieces

    def _flushed(self) -> list[Delta]:
        begun, self._begun = self._begun, None
        return begun or []


# Results of the provider, which concern the whole response.
REPORTED: Final = (
    "access_programs",
    "input_transformations",
    "moderation",
    "prompt_cache_diagnostics",
    "tool_usage",
)
# The limit on the size of these results, in bytes of JSON. Larger results are left out.
MAX_REPORTED: Final = 65_536


def _reported(response: dict[str, Any]) -> dict[str, Any]:
    given = {name: storable(response[name]) for name in REPORTED if response.get(name) is not None}
    return given if len(json.dumps(given)) <= MAX_REPORTED else {}


def compacted(body: Any) -> list[Delta]:
    """Returns the pieces in the body of a response to `POST /responses/compact`.

    Raises: Malformed if the body contains no compaction item.
    """
    output = body.get("output") if isinstance(body, dict) else None
    items = output if isinstance(output, list) else []
    if not any(isinstance(one, dict) and one.get("type") == COMPACTION for one in items):
        raise Malformed("the body contains no compaction item")
    return ResponsesEventReader().whole(body)


def counted(body: Any) -> list[Delta]:
    """Returns the pieces in the body of a response to `POST /responses/input_tokens`.

    Raises: Malformed if the body contains no number of tokens.
    """
    tokens = body.get("input_tokens") if isinstance(body, dict) else None
    if not isinstance(tokens, int) or isinstance(tokens, bool) or not 0 <= tokens < 2**53:
        raise Malformed("the body contains no number of tokens")
    return [Reported({"input_tokens": tokens}), *NOT_CALLED]


# The pieces of an answer without a model call.
NOT_CALLED: Final[list[Delta]] = [Usage({"input_tokens": 0, "output_tokens": 0}), Stopped("stop")]
_INDEXES: Final = frozenset({"output_index", "content_index", "summary_index"})


def _item(item: Any) -> Any:
    """Returns an item in the format of the Responses API.

    Some upstreams send the content of a message as a string, or as parts with the types of chat
    completions. The result always has a list of Responses API parts. An item with a role but
    without a type is a message, as in a request.
    """
    if isinstance(item, dict) and "role" in item:
        item = {"type": "message", **item}
    if not isinstance(item, dict) or item.get("type") != "message":
        return item
    content = item.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}] if content else []
    if not isinstance(content, list):
        return item
    return item | {"content": [_part(part) for part in content]}


def _part(part: Any) -> Any:
    chat = isinstance(part, dict) and part.get("type") == "text"
    return part | {"type": "output_text"} if chat else part


def _cleaned(event: dict[str, Any]) -> dict[str, Any]:
    """Returns the event in a form that a log can store.

    The field `delta` is left unchanged, because it may begin or end with half of a surrogate pair.
    """
    cleaned: dict[str, Any] = storable(event)
    for name in _INDEXES & cleaned.keys():
        cleaned[name] = integer(cleaned[name])
    return cleaned | ({"delta": event["delta"]} if isinstance(event.get("delta"), str) else {})
