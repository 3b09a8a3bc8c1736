"""Rebuilds the items of an upstream Responses API with Holdline's ids and indexes.

Many upstreams omit events and fields of the Responses API. They do not announce items and parts,
send texts and arguments only in a `…done` event or in the output of the last event, or leave fields
out. Therefore the translator rebuilds messages, reasoning and calls, and sends their events in the
order of the Responses API. A complete text takes precedence over its deltas. If the complete text
continues the deltas, the rest is sent as another delta. If it differs, it replaces the deltas in
the item.

Items of other types are passed on unchanged. If some data belongs to no item at the end of the
stream, the stream is malformed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from jobs.log import items
from jobs.log.items import ARGUMENTS, TEXT_OF, Place
from worker.upstream.deltas import Malformed
from worker.upstream.surrogates import encodable

from .item_index import ItemIndex
from .upstream_item import KNOWN, UpstreamItem, check_names, has_text, merged_parts, name_of

if TYPE_CHECKING:
    from jobs.checkpoint import Row
    from jobs.log.codec import Event
    from jobs.log.items import Item, Part

# Maps the first part of a text event's type to the kind of the text and the type of its item.
_TEXTS: Final = {
    "response.output_text": ("output_text", "message"),
    "response.refusal": ("refusal", "message"),
    "response.reasoning_text": ("reasoning_text", "reasoning"),
    # this name is from the Open Responses specification
    "response.reasoning": ("reasoning_text", "reasoning"),
    "response.reasoning_summary_text": ("summary_text", "reasoning"),
    "response.function_call_arguments": (ARGUMENTS, "function_call"),
}
_PARTS: Final = {
    "response.content_part": "content",
    "response.reasoning_part": "content",  # an event of vLLM
    "response.reasoning_summary_part": "summary",
}
# The events that repeat the complete text when a text has ended.
REPEATING: Final = frozenset({*(f"{stem}.done" for stem in (*_TEXTS, *_PARTS))})
_GROUPS: Final = {
    "message": ("content",),
    "reasoning": ("summary", "content"),
    "function_call": (),
}
_DROPPED: Final = ("sequence_number", "obfuscation", "response_id")


@dataclass(frozen=True, slots=True)
class PlacedText:
    """A piece of text, and the place in an item to which it belongs.

    The caller must pass the part of the text that fits within the size limit to
    `ItemTranslator.add_text`.
    """

    place: Place
    text: str
    logprobs: list[Any] | None
    item: Item


Step = dict[str, Any] | PlacedText


class ItemTranslator:
    """Translates the events of one upstream stream.

    The function `name` returns an item id for a prefix and an output index. The function
    `take_index` returns the next output index.
    """

    def __init__(self, name: Callable[[str, int], str], take_index: Callable[[], int]) -> None:
        self._name = name
        self._take_index = take_index
        self._index = ItemIndex()
        # True if the items come from several streams of the upstream. An event that contradicts the
        # items then makes the stream malformed.
        self.strict = False

    def translate(self, event: Event) -> Iterator[Step]:
        """Yields the events and pieces of text to send for an event of the upstream.

        The caller must handle each event or piece before it requests the next one. An item counts
        as announced or ended only then, so a caller that refuses an event stops the iteration.

        Raises: Malformed if the event is invalid or contradicts earlier events.
        """
        try:
            yield from self._translate(event)
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise Malformed(type(error).__name__) from None

    def add_text(self, placed: PlacedText, text: str) -> None:
        """Adds text to the item of a piece.

        `text` is the part of the piece that fits within the size limit.
        """
        items.apply(placed.item, items.delta(placed.place, text, placed.logprobs))

    def open(self) -> list[tuple[int, Item]]:
        """Returns the items that were announced but have not ended, with their output indexes."""
        return [
            (one.index, one.item) for one in self._index.items if one.announced and not one.done
        ]

    def rows(self) -> list[Row] | None:
        """Returns the rows of a checkpoint, or None if some output is not in the log yet."""
        return self._index.rows()

    def restore(self, rows: list[Row], items: dict[int, Item]) -> None:
        """Continues after a checkpoint. `items` are the items of the log, by output index."""
        self.strict = True
        self._index.restore(rows, items)

    @property
    def interruptible(self) -> bool:
        """True if all items that have not ended are text or reasoning."""
        return all(one.done or one.type in ("message", "reasoning") for one in self._index.items)

    def _translate(self, event: Event) -> Iterator[Step]:
        kind: str = event["type"]
        stem, _, verb = kind.rpartition(".")
        if kind in ("response.completed", "response.incomplete"):
            yield from self._ended(event["output"], completed=kind.endswith("completed"))
        elif "item" in event and event["item"] is None:
            pass
        elif kind == "response.output_item.added":
            yield from self._added(event)
        elif kind == "response.output_item.done":
            whole = event["item"]
            held = self._index.find(event, whole["type"], whole) or self._index.new(whole, event)
            yield from self._complete(held, whole, final=False)
        elif stem in _TEXTS and verb in ("delta", "done"):
            yield from self._text(event, *_TEXTS[stem], verb)
        elif stem in _PARTS and verb in ("added", "done"):
            yield from self._part_event(event, _PARTS[stem])
        elif kind == "response.output_text.annotation.added":
            yield from self._annotation(event)
        else:
            yield from self._passed(event)

    def _added(self, event: Event) -> Iterator[Step]:
        item: Item = event["item"]
        known = self._index.by_id(item.get("id"))
        if known is None:
            known = self._index.new(item, event)
            known.held = item if item["type"] in KNOWN else None
        yield from self._announce(known)

    def _announce(self, held: UpstreamItem) -> Iterator[Step]:
        """Announces an item, unless it was announced before or is a call without a name."""
        if held.announced or (held.type == "function_call" and not name_of(held.item)):
            return
        held.index = self._take_index()
        held.begin(self._name)
        yield items.added(held.index, deepcopy(held.item))
        held.announced = True
        if text := "".join(held.arguments):
            held.arguments.clear()
            place = held.arguments_place
            yield PlacedText(place, held.joined(place, text), None, held.item)

    def _finish(self, held: UpstreamItem) -> Iterator[Step]:
        for place, joiner in held.joiners.items():
            if half := joiner.joined("", last=True):
                yield PlacedText(place, half, None, held.item)
        item = held.item
        is_call = held.type == "function_call" and item.get("status") == "completed"
        if is_call and not item["arguments"].strip():
            # A call without arguments gets the arguments `{}`, as OpenAI sends them, because many
            # clients cannot parse an empty text.
            yield PlacedText(held.arguments_place, "{}", None, item)
        if held.type in KNOWN:
            yield from items.done(held.index, held.item)
        else:
            yield {
                "type": "response.output_item.done",
                "output_index": held.index,
                "item": held.item,
            }
        held.done = True

    def _complete(self, held: UpstreamItem, whole: Item, *, final: bool) -> Iterator[Step]:
        """Merges the complete item from an event into the known item, and ends the item.

        If the item has no text yet, it stays open until the last event, which may contain the text.
        """
        if held.done:
            return
        check_names(whole)
        if held.type not in KNOWN:
            held.item = held.item if held.announced else deepcopy(whole)
            yield from self._announce(held)
            held.item = {**deepcopy(whole), "id": held.item["id"], "type": held.type}
        else:
            if name_of(whole) and not held.announced:
                held.item = {**held.item, **deepcopy(whole)}
            yield from self._announce(held)
            if not held.announced:
                held.held = whole
                return
            yield from self._merged(held, whole)
            if not final and not has_text(held.item) and held.type != "reasoning":
                held.held = whole
                return
        yield from self._finish(held)

    def _merged(self, held: UpstreamItem, whole: Item) -> Iterator[Step]:
        """Merges a complete item into the item sent so far, and yields deltas for missing text."""
        if held.type == "function_call":
            if isinstance(arguments := whole.get("arguments"), dict | list):
                arguments = json.dumps(arguments)
            if arguments:
                yield from self._reconcile(
                    held, held.arguments_place, held.item, "arguments", arguments
                )
        for group in _GROUPS[held.type]:
            parts = whole.get(group)
            matched: set[int] = set()
            for number, part in enumerate(parts if isinstance(parts, list) else ()):
                if not isinstance(part, dict) or part.get("type") not in TEXT_OF:
                    continue
                place = yield from self._part(held, group, number, part["type"], part, matched)
                matched.add(place.part)
                name = TEXT_OF[place.kind]
                if text := part.get(name):
                    yield from self._reconcile(
                        held, place, held.item[group][place.part], name, text
                    )
            parts = merged_parts(whole, held.item.get(group) or [], group)
            if parts or group in whole or group in held.item:
                held.item[group] = parts
        kept = {"id", "type", "arguments", "summary", "content"}
        for name, value in whole.items():
            if name not in kept and (value is not None or name not in held.item):
                held.item[name] = value
        if held.item.get("status") in (None, "in_progress"):
            held.item["status"] = "completed"

    def _reconcile(
        self, held: UpstreamItem, place: Place, holder: dict[str, Any], name: str, whole: str
    ) -> Iterator[Step]:
        """Yields the part of a complete text that its deltas did not contain.

        If the deltas differ from the complete text, the complete text replaces them in the item.
        """
        if not isinstance(whole, str):
            raise Malformed("a text is not a string")
        held.joiners.pop(place, None)
        text: str = holder[name]
        if whole.startswith(text):
            if rest := whole[len(text) :]:
                yield PlacedText(place, rest, None, held.item)
        elif self.strict:
            raise Malformed("the rest belongs to another text")
        else:
            holder[name] = whole

    def _text(self, event: Event, kind: str, type_: str, verb: str) -> Iterator[Step]:
        text = event.get("delta" if verb == "delta" else TEXT_OF.get(kind, "arguments"))
        find = self._index.find_or_new if text else self._index.find
        held = find(event, type_)
        if held is None:
            return
        if held.done:
            if verb == "delta" and text:
                raise Malformed("a delta belongs to a finished item")
            return
        if kind == ARGUMENTS:
            yield from self._arguments(held, event, verb)
            return
        group = "summary" if kind == "summary_text" else "content"
        place = yield from self._placed(held, event, group, kind, {})
        if verb == "delta":
            if not isinstance(text, str | None):
                raise Malformed("a delta is not text")
            logprobs = event.get("logprobs")
            logprobs = logprobs if isinstance(logprobs, list) else None
            yield PlacedText(place, held.joined(place, text or ""), logprobs, held.item)
        elif text:
            part = held.item[group][place.part]
            yield from self._reconcile(held, place, part, TEXT_OF[kind], text)

    def _arguments(self, held: UpstreamItem, event: Event, verb: str) -> Iterator[Step]:
        if not name_of(held.item) and name_of(event):
            held.item["name"] = event["name"]
        yield from self._announce(held)
        text = event.get("delta" if verb == "delta" else "arguments") or ""
        if not isinstance(text, str):
            raise Malformed("the arguments of a call are not text")
        if not held.announced:
            if verb == "done":
                held.arguments.clear()
            held.arguments.append(text)
        elif verb == "delta":
            place = held.arguments_place
            yield PlacedText(place, held.joined(place, text), None, held.item)
        elif text:
            yield from self._reconcile(held, held.arguments_place, held.item, "arguments", text)

    def _part_event(self, event: Event, group: str) -> Iterator[Step]:
        part: Part | None = event.get("part")
        if part is None:
            return
        if part["type"] not in TEXT_OF:
            yield from self._passed(event)
            return
        type_ = "message" if part["type"] in ("output_text", "refusal") else "reasoning"
        held = self._index.find_or_new(event, type_)
        if held.done:
            return
        place = yield from self._placed(held, event, group, part["type"], part)
        name = TEXT_OF[place.kind]
        if event["type"].endswith(".done") and (text := part.get(name)):
            yield from self._reconcile(held, place, held.item[group][place.part], name, text)

    def _placed(
        self, held: UpstreamItem, event: Event, group: str, kind: str, given: Part
    ) -> Generator[Step, None, Place]:
        """Returns the place of the content part that an event names.

        If the item or the part is new, the method adds it.
        """
        yield from self._announce(held)
        number = event.get(f"{group}_index") or 0
        return (yield from self._part(held, group, number, kind, given))

    def _part(
        self,
        held: UpstreamItem,
        group: str,
        number: int,
        kind: str,
        given: Part,
        matched: set[int] | None = None,
    ) -> Generator[Step, None, Place]:
        """Returns the place of a content part, and adds the part if it is new."""
        ours = held.find_part(group, number, kind, matched)
        if ours is None:
            parts: list[Part] = held.item.get(group) or []
            held.item[group] = parts
            ours = held.parts[group, number, kind] = len(parts)
            place = Place(kind, held.item["id"], held.index, ours)
            part = {**given, **items.part_of(kind)}
            parts.append(part)
            stem = "reasoning_summary_part" if group == "summary" else "content_part"
            yield {"type": f"response.{stem}.added", **place.fields, "part": deepcopy(part)}
            return place
        return Place(kind, held.item["id"], held.index, ours)

    def _annotation(self, event: Event) -> Iterator[Step]:
        held = self._index.find_or_new(event, "message")
        if held.done:
            return
        place = yield from self._placed(held, event, "content", "output_text", {})
        annotations = held.item["content"][place.part]["annotations"]
        ours = items.annotated(place, len(annotations), event["annotation"])
        items.apply(held.item, ours)
        yield ours

    def _passed(self, event: Event) -> Iterator[Step]:
        """Passes on an event of an unknown type, if the item of the event was announced."""
        held = self._index.find(event)
        if held is None or not held.announced or held.done:
            return
        ours = {name: value for name, value in event.items() if name not in _DROPPED}
        ours["output_index"] = held.index
        if "item_id" in ours:
            ours["item_id"] = held.item["id"]
        if isinstance(ours.get("delta"), str):
            ours["delta"] = encodable(ours["delta"])
        items.apply(held.item, ours)
        yield ours

    def _ended(self, output: list[Any], *, completed: bool) -> Iterator[Step]:
        """Merges the items that the stream's last event lists, and ends all open items."""
        matched: set[int] = set()
        ids = {whole.get("id") for whole in output}
        for index, whole in enumerate(output):
            held = self._index.listed(whole, index, matched, ids)
            if held is None:
                held = self._index.new(whole, {})
            matched.add(id(held))
            cut = not completed and whole.get("status") in (None, "in_progress")
            item = {**whole, "status": "incomplete"} if cut else whole
            yield from self._complete(held, item, final=True)
        if (
            self.strict
            and output
            and any(held.announced and id(held) not in matched for held in self._index.items)
        ):
            raise Malformed("the response lacks items of the log")
        if not completed:
            return
        for held in self._index.items:
            if not held.done and held.held is not None:
                yield from self._complete(held, held.held, final=True)
            if not held.done and held.announced:
                if held.type in KNOWN:
                    held.item["status"] = "completed"
                yield from self._finish(held)
        if not self._index.items or not all(held.announced for held in self._index.items):
            raise Malformed("the response lacks items that the stream contained")
