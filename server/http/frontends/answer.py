"""Reads a response's log as the parts of an answer, for stream formats of other protocols.

A translation is a function of the log alone: every stream of a response consists of the same
chunks in the same order. So a stream that resumes after an event reads the log from its beginning
and leaves out the chunks that the client has. The last chunk of each event carries the cursor of
the event, so a client knows its position without understanding the chunks. `framing.py`
writes the chunks as server-sent events or as messages of a WebSocket.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from jobs.log.events import RESTARTED, TERMINAL_TYPES
from server.api.failures import problem_of
from server.api.refusals import beyond_end, rolled_back

from .cursor import BEGINNING, AnswerCursor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobs.log.codec import Event
    from server.api.frames import Frame
    from server.api.problem import Problem

Json = dict[str, Any]

TEXT: Final = "text"
REASONING: Final = "reasoning"
# Maps the types of deltas to the kind of the part that they extend. A refusal is shown as text.
_DELTAS: Final = {
    "response.output_text": TEXT,
    "response.refusal": TEXT,
    "response.reasoning_text": REASONING,
    "response.reasoning_summary_text": REASONING,
}


class Part(NamedTuple):
    """A text of the answer: its kind, and an id that no other text of any answer has."""

    kind: str
    id: str


class Chunk(NamedTuple):
    """A piece of the answer in another protocol.

    `cursor` is the cursor of the log's event if the chunk is the last of this event, or else None.
    """

    body: Json
    cursor: AnswerCursor | None


class AnswerFormat(ABC):
    """The chunks of an answer in another protocol. A subclass writes the chunks of its protocol.

    Chunks for events up to the client's cursor, `since`, are left out. The follower of the stream
    must start before the first event all the same.
    """

    # The HTTP headers of a stream of server-sent events, and the bytes that end the stream.
    headers: Mapping[str, str] = {}
    done = b""
    # The types of items whose calls the client executes, and of the field with the input.
    calls: ClassVar[Mapping[str, str]] = {"function_call": "arguments", "custom_tool_call": "input"}

    def __init__(self, since: AnswerCursor = BEGINNING) -> None:
        self.broken = False  # True once an error chunk has ended the stream before its response
        self._since = since
        self._known = False  # True if the client has the chunks of the current event
        self._open: dict[str, Part] = {}
        self._begun: set[str] = set()  # the ids of parts with text, and of calls with input
        self._calls: dict[str, Json] = {}  # the items of calls as they began, by their ids

    def chunks(self, frames: list[Frame]) -> list[Chunk]:
        """Translates a batch of events into the chunks that the client does not have."""
        chunks = []
        for frame in frames:
            if self.broken:
                break
            self._known = frame.sequence_number <= self._since.after
            bodies = self._chunks(frame.event)
            if bodies and not self._known:
                chunks += [Chunk(body, None) for body in bodies[:-1]]
                chunks.append(Chunk(bodies[-1], AnswerCursor.at(frame)))
            if problem := self._cursor_problem(frame):
                self.broken = True
                chunks += [Chunk(body, None) for body in self.failed(problem)]
        return chunks

    def _cursor_problem(self, frame: Frame) -> Problem | None:
        """Returns a problem if this event proves that the client's cursor is not of this log."""
        is_beyond = frame.last and frame.sequence_number < self._since.after
        if self._since.differs(frame) or (is_beyond and self._since.checksum):
            return rolled_back()
        return beyond_end(self._since.after, frame.sequence_number + 1) if is_beyond else None

    @abstractmethod
    def opened(self, response: Json) -> list[Json]:
        """Returns the chunks that begin the answer."""

    @abstractmethod
    def part_begun(self, part: Part) -> list[Json]:
        """Returns the chunks that begin a text."""

    @abstractmethod
    def part_extended(self, part: Part, delta: str) -> list[Json]:
        """Returns the chunks that extend a text."""

    @abstractmethod
    def part_ended(self, part: Part) -> list[Json]:
        """Returns the chunks that end a text."""

    @abstractmethod
    def call_begun(self, item: Json) -> list[Json]:
        """Returns the chunks that begin a call of the client's tool."""

    @abstractmethod
    def call_extended(self, item: Json, delta: str) -> list[Json]:
        """Returns the chunks that extend the input of a call."""

    @abstractmethod
    def call_ended(self, item: Json) -> list[Json]:
        """Returns the chunks that end a call, whose input is complete."""

    @abstractmethod
    def other_item(self, item: Json) -> list[Json]:
        """Returns the chunks for a complete item of any other type, such as a provider's tool."""

    @abstractmethod
    def annotated(self, event: Event) -> list[Json]:
        """Returns the chunks for an annotation of a text."""

    @abstractmethod
    def restarted(self) -> list[Json]:
        """Returns the chunks that discard the answer so far, of which the client has a part."""

    @abstractmethod
    def finished(self, response: Json) -> list[Json]:
        """Returns the chunks that end an answer that is complete, incomplete or cancelled."""

    @abstractmethod
    def failed(self, problem: Problem) -> list[Json]:
        """Returns the chunks that end an answer that failed."""

    def _chunks(self, event: Event) -> list[Json]:
        match event["type"]:
            case "response.created":
                return self.opened(event["response"])
            case "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta":
                return self._call_extended(event["item_id"], event["delta"])
            case "response.output_item.added" if event["item"]["type"] in self.calls:
                return self._call_begun(event["item"])
            case "response.output_item.done":
                return self._item_ended(event["item"])
            case "response.output_text.annotation.added":
                return self.annotated(event)
            case kind if kind == RESTARTED:
                return self._restarted()
            case kind if kind in TERMINAL_TYPES:
                problem = problem_of(event["response"])
                end = self.finished(event["response"]) if problem is None else self.failed(problem)
                return [*self._close(), *end]
            case kind:
                name, _, what = kind.rpartition(".")
                return self._text(_DELTAS[name], what, event) if name in _DELTAS else []

    def _text(self, kind: str, what: str, event: Event) -> list[Json]:
        """Translates a delta of a text, or its end, which repeats the whole text."""
        part = Part(kind, _part_id(event))
        if what == "delta":
            return self._extended(part, event["delta"])
        if what != "done":
            return []
        whole = event.get("text") or event.get("refusal") or ""
        missed = [] if part.id in self._begun or not whole else self._extended(part, whole)
        return [*missed, *self._close(part.id)]

    def _extended(self, part: Part, delta: str) -> list[Json]:
        opening = []
        if part.id not in self._open:
            self._open[part.id] = part
            self._begun.add(part.id)
            opening = self.part_begun(part)
        return [*opening, *self.part_extended(part, delta)]

    def _close(self, *ids: str) -> list[Json]:
        """Ends these texts, or all open texts if no ids are given."""
        closed = [self._open.pop(id_, None) for id_ in ids or tuple(self._open)]
        return [chunk for part in closed if part is not None for chunk in self.part_ended(part)]

    def _call_begun(self, item: Json) -> list[Json]:
        self._calls[item["id"]] = item
        return [*self._close(), *self.call_begun(item)]

    def _call_extended(self, item_id: str, delta: str) -> list[Json]:
        item = self._calls.get(item_id)
        if item is None or not delta:
            return []
        self._begun.add(item_id)
        return self.call_extended(item, delta)

    def _item_ended(self, item: Json) -> list[Json]:
        field = self.calls.get(item["type"])
        if field is None:
            return [*self._close(), *self.other_item(item)]
        begun = [] if item["id"] in self._calls else self._call_begun(item)
        if item["id"] not in self._begun:
            begun += self._call_extended(item["id"], item[field])
        return [*begun, *self.call_ended(item)]

    def _restarted(self) -> list[Json]:
        shown = bool(self._begun or self._calls)
        ends = self._close()
        self._begun.clear()
        self._calls.clear()
        return [*ends, *self.restarted()] if shown else []


def _part_id(event: Event) -> str:
    id_: str = event["item_id"]
    if (summary := event.get("summary_index")) is not None:
        return f"{id_}-summary-{summary}"
    index = event.get("content_index") or 0
    return f"{id_}-{index}" if index else id_
