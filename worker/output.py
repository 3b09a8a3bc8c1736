"""Builds the output items of one attempt, and the events that report them.

Messages and reasoning items follow one another: an item ends when the next item begins. The chunks
of several calls may alternate, so calls stay open until the end of the stream. If the arguments of
a call do not have the parameters of its tool, the output is malformed and never completed.

Two limits bound the output that a model call adds to the log. One limit applies to the text. The
second limit applies to all other data that an endpoint could send without end: items and parts,
names, annotations, log probabilities, provider data, and items and events that Holdline passes on
unchanged.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Final, Protocol, assert_never

from jobs.checkpoint import Checkpoint
from jobs.ids import item_id
from jobs.log import items
from jobs.log.items import Place
from jobs.owed import owed

from .open_call import PREFIXES, OpenCall
from .open_item import OpenItem, OpenPart
from .upstream.deltas import (
    Annotation,
    Call,
    Malformed,
    Reasoning,
    Refusal,
    Text,
    Thinking,
    TooLong,
    UpstreamEvent,
)
from .upstream.provider_data import add_details, marked
from .upstream.responses import translator, upstream_item
from .upstream.responses.events import Position

if TYPE_CHECKING:
    from jobs.log.codec import Event
    from jobs.log.items import Item
    from jobs.log.response_state import ResponseState

    from .upstream.chat.toolbox import Toolbox
    from .upstream.deltas import OutputDelta

# A function that returns an item id for a prefix and an output index.
Name = Callable[[str, int], str]


def naming(response_id: str, attempt: int, claim: str) -> Name:
    """Returns a function that returns the id of an attempt's item for a prefix and an index.

    The function does not refer to the execution, which would be a reference cycle.
    """
    return lambda prefix, index: item_id(prefix, response_id, attempt, index, claim)


# The approximate sizes in the log of an item, of a content part and of an event, all without
# content.
ITEM_BYTES: Final = 1000
PART_BYTES: Final = 500
EVENT_BYTES: Final = 100
# Data other than text may always take this many bytes, even if the limit on text is lower.
MIN_OTHER_BYTES: Final = 65_536
# A response with a larger checkpoint has none. Each append stores the checkpoint again.
MAX_CHECKPOINT_BYTES: Final = 16_384


class Sink(Protocol):
    """An object that receives the events of an output, for example a `Flusher`."""

    def add(self, *events: Event) -> None:
        """Adds events to the output."""

    def add_text(self, place: Place, text: str, logprobs: list[Any] | None = None) -> None:
        """Adds a piece of text. Several pieces may become one delta event."""


class NotAllowed(Exception):
    """The model called a function that the request does not allow it to call."""


_KINDS = {Text: "output_text", Refusal: "refusal", Reasoning: "reasoning_text"}


class Output:
    """The output items of one attempt.

    `index` is the output index of the first item. `toolbox` contains the tools that the model may
    call. `used` are the call ids of earlier attempts. `most` is the maximum size in bytes of the
    text, and also of all other data together.
    """

    def __init__(
        self,
        sink: Sink,
        name: Name,
        *,
        index: int,
        most: int,
        toolbox: Toolbox,
        used: Collection[str] = (),
    ) -> None:
        self._sink = sink
        self._name = name
        self._most = most
        self._toolbox = toolbox
        self._used = {*used}
        self._open: OpenItem | None = None
        self._calls: dict[int, OpenCall] = {}
        # The translator gets this counter instead of a method of this object. A method would create
        # a reference cycle, which would keep the job in memory until the garbage collector runs.
        self._take_index = itertools.count(index).__next__
        self._translator = translator.ItemTranslator(name, self._take_index)
        self._done: dict[int, Item] = {}
        # The `reasoning_details` of the message, which the provider requires in later requests.
        self._details: list[dict[str, Any]] = []
        self.maker = ""  # the name of the model that produces the output
        # The endpoint's position, if it generates the output in the background.
        self.position: Position | None = None
        self.size = 0
        self._other_size = 0

    def take(self, piece: OutputDelta) -> None:
        """Adds a piece of the model's output. Raises: TooLong, NotAllowed, Malformed."""
        match piece:
            case Text() | Refusal() | Reasoning():
                provider_field = piece.field if isinstance(piece, Reasoning) else ""
                part = self._part(_KINDS[type(piece)], provider_field)
                logprobs = piece.logprobs if isinstance(piece, Text) else None
                if logprobs:
                    self._count(json_bytes(logprobs))
                self._add_text(part.place, part.pieces, piece.text, logprobs)
                part.logprobs += logprobs or ()
            case Call():
                self._call(piece)
            case Annotation(fields):
                self._count(EVENT_BYTES + json_bytes(fields))
                part = self._part("output_text")
                self._sink.add(items.annotated(part.place, len(part.annotations), fields))
                part.annotations.append(fields)
            case UpstreamEvent(event):
                self._pass(event)
            case Thinking(details):
                self._count(sum(map(json_bytes, details)))
                add_details(self._details, details)
            case _:
                assert_never(piece)

    def checkpoint(self) -> bytes:
        """Returns the encoded checkpoint of a log with this output, or b"" if it has none."""
        if self.position is None or (rows := self._translator.rows()) is None:
            return b""
        encoded = Checkpoint(self.maker, *self.position, rows).encoded()
        return encoded if len(encoded) <= MAX_CHECKPOINT_BYTES else b""

    def restore(self, checkpoint: Checkpoint, state: ResponseState) -> None:
        """Continues the output of an earlier worker, of which `state` has all items.

        Raises: LookupError or ValueError if the checkpoint does not fit the items.
        """
        self.maker = checkpoint.model
        if checkpoint.upstream_id:
            self._translator.restore(checkpoint.rows, state.items)
            self.position = Position(checkpoint.upstream_id, checkpoint.sequence_number)
        else:
            (index,) = state.open_indexes
            self._open = OpenItem.of(index, state.items[index])
        for index, item in state.items.items():
            if index not in state.open_indexes:
                self._done[index] = item
            text = len(upstream_item.text_of(item).encode(errors="replace"))
            self.size += text
            self._other_size += ITEM_BYTES + json_bytes(item) - text

    def expect_same_text(self) -> None:
        """Rejects events that contradict earlier items, because they come from another stream."""
        self._translator.strict = True

    @property
    def interruptible(self) -> bool:
        """True if the output can end here, because the model has called no tool of the client.

        Text and reasoning can be interrupted at any point. If the client owes results, the output
        must end with the calls.
        """
        return (
            not self._calls and self._translator.interruptible and not owed([*self._done.values()])
        )

    def put(self, prefix: str, item: Item) -> None:
        """Adds a complete item, which gets an id that begins with `prefix`. Raises: TooLong."""
        self._close("completed")
        self._count(ITEM_BYTES + json_bytes(item))
        index = self._take_index()
        named = {**item, "id": self._name(prefix, index)}
        self._sink.add(items.added(index, named))
        self._finish(index, named)

    def end_calls(self) -> None:
        """Completes the arguments of all open calls, once the model has finished its answer.

        Raises: TooLong; Malformed if the arguments of a call do not have its tool's parameters.
        """
        for call in self._calls.values():
            if rest := call.end():
                self._sink.add_text(call.place, rest)
            self._count(3 * EVENT_BYTES * len(call.commands))

    def end(self, *, completed: bool) -> list[Item]:
        """Ends all open items, and returns the output items of the response.

        If the output is `completed`, `end_calls` must have been called before.
        """
        status = "completed" if completed else "incomplete"
        self._close(status)
        for call in self._calls.values():
            if call.streams:
                item = self._called(call, status)
                self._finish(call.index, item if completed else items.incomplete(item))
            elif completed and call.complete:
                for step in call.begun():
                    if isinstance(step, tuple):
                        self._sink.add_text(*step)
                    else:
                        self._sink.add(step)
                self._finish(call.index, self._called(call, status))
        self._calls.clear()
        for index, item in self._translator.open():
            ended = {**item, "status": status} if completed else items.incomplete(item)
            self._finish(index, ended)
        if completed and not self._done:
            # A completed response may have no output, but clients expect at least one message.
            self._part("output_text")
            self._close(status)
        return [self._done[index] for index in sorted(self._done)]

    def _part(self, kind: str, provider_field: str = "") -> OpenPart:
        """Returns the open part for text of this kind, and begins a part if none is open."""
        wanted = "reasoning" if kind == "reasoning_text" else "message"
        if self._open is not None and self._open.type != wanted:
            self._close("completed")
        if self._open is None:
            self._count(ITEM_BYTES)
            index = self._take_index()
            item_id = self._name("rs" if wanted == "reasoning" else "msg", index)
            self._open = OpenItem(wanted, item_id, index, provider_field, self.maker)
            self._sink.add(items.added(index, self._open.whole("in_progress")))
        parts = self._open.parts
        if not parts or parts[-1].place.kind != kind:
            self._count(PART_BYTES)
            place = Place(kind, self._open.item_id, self._open.index, len(parts))
            parts.append(OpenPart(place))
            self._sink.add(items.part_added(place))
        return parts[-1]

    def _call(self, piece: Call) -> None:
        if (call := self._calls.get(piece.key)) is None:
            self._count(ITEM_BYTES + len(piece.name) + len(piece.call_id))
            call = self._calls[piece.key] = OpenCall()
        call.call_id = call.call_id or piece.call_id
        if piece.extra_content is not None:
            self._count(json_bytes(piece.extra_content))
            call.extra_content = piece.extra_content
        if call.complete and piece.arguments:
            raise Malformed("arguments of a call followed its end")
        held = ""
        if call.tool is None:
            call.name = call.name or piece.name
            held, call.pieces = "".join(call.pieces), []
            if not call.name:
                call.pieces.append(held + piece.arguments)
                return
            if (tool := self._toolbox.get(call.name)) is None:
                raise NotAllowed
            self._close("completed")
            index = self._take_index()
            if call.call_id in self._used:
                # Some endpoints number their calls, so each attempt would use the same ids. Others
                # give all calls the same id, but a client names the id in its result.
                call.call_id = f"{call.call_id}_{index}"
            call.begin(tool, self._name(PREFIXES[tool.kind], index), index)
            self._used.add(call.call_id)
            if call.streams:
                self._sink.add(items.added(index, call.item("in_progress")))
        text = held + piece.arguments
        fits = self._fitting(text)
        if passed := call.decoded(fits):
            self._sink.add_text(call.place, passed)
        if len(fits) < len(text):
            raise TooLong

    def _pass(self, event: Event) -> None:
        """Passes on an event of an upstream Responses API with Holdline's own ids and indexes."""
        silent = True
        for step in self._translator.translate(event):
            silent = False
            if isinstance(step, translator.PlacedText):
                fits = self._fitting(step.text)
                self._translator.add_text(step, fits)
                if fits:
                    self._sink.add_text(step.place, fits, step.logprobs)
                if step.logprobs:
                    self._count(json_bytes(step.logprobs))
                if len(fits) < len(step.text):
                    raise TooLong
                continue
            if step["type"] in ("response.output_item.added", "response.output_item.done"):
                item = step["item"]
                if item["type"] == "function_call" and not self._toolbox.allows(item):
                    raise NotAllowed
            self._count_step(step)
            self._sink.add(step)
            if step["type"] == "response.output_item.done":
                self._done[step["output_index"]] = step["item"]
        if silent:  # the translator has buffered the event
            self._count(EVENT_BYTES + json_bytes(event))

    def _count_step(self, step: Event) -> None:
        """Counts the size of an event without its text, because `_fitting` counts the text."""
        kind: str = step["type"]
        if kind == "response.output_item.added":
            self._count(ITEM_BYTES)
        elif kind.endswith("part.added"):
            self._count(PART_BYTES)
        elif kind == "response.output_item.done":
            item = step["item"]
            counted = upstream_item.text_of(item) if item["type"] in upstream_item.KNOWN else ""
            self._count(json_bytes(item) - json_bytes(counted))
        elif kind not in translator.REPEATING:
            self._count(EVENT_BYTES + json_bytes(step))

    def _count(self, size: int) -> None:
        """Counts data other than text.

        Raises: TooLong if the data exceeds the limit. The data may have been added already.
        """
        self._other_size += size
        if self._other_size > max(self._most, MIN_OTHER_BYTES):
            raise TooLong

    def _add_text(
        self, place: Place, pieces: list[str], text: str, logprobs: list[Any] | None = None
    ) -> None:
        fits = self._fitting(text)
        if fits:
            pieces.append(fits)
            self._sink.add_text(place, fits, logprobs)
        if len(fits) < len(text):
            raise TooLong

    def _fitting(self, text: str) -> str:
        """Returns the beginning of the text that fits within the limit, and counts its bytes."""
        size = len(text) if text.isascii() else len(text.encode())
        if self.size + size > self._most:
            text = text.encode()[: self._most - self.size].decode(errors="ignore")
            size = len(text.encode())
        self.size += size
        return text

    def _called(self, call: OpenCall, status: str) -> Item:
        # Provider data of a whole message is stored with the first call of the message.
        first = call is next(iter(self._calls.values()))
        extra = marked(call.extra_content, self.maker, self._details if first else [])
        return call.item(status, extra)

    def _close(self, status: str) -> None:
        if self._open is not None:
            self._finish(self._open.index, self._open.whole(status))
            self._open = None

    def _finish(self, index: int, item: Item) -> None:
        self._done[index] = item
        self._sink.add(*items.done(index, item))


def json_bytes(value: Any) -> int:
    """Returns the size of a value as JSON, in bytes."""
    return len(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
