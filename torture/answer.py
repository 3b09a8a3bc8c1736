"""Checks the events of one response, and puts its text together. Does no I/O."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from torture.errors import Broken

Json = dict[str, Any]

TERMINAL_EVENTS: Final = frozenset(
    {"response.completed", "response.incomplete", "response.failed", "response.cancelled"}
)
TERMINAL_STATUSES: Final = frozenset({"completed", "incomplete", "failed", "cancelled"})


def field_of(value: Any, *names: str | int) -> Any:
    """Returns a value inside a JSON value.

    Raises:
        Broken: the value does not exist.
    """
    found, path = value, ""
    for name in names:
        path += f"[{name}]" if isinstance(name, int) else f".{name}"
        try:
            found = found[name]
        except (KeyError, IndexError, TypeError):
            raise Broken(f"{path.lstrip('.')} is missing in {str(value)[:200]}") from None
    return found


def text_of(value: Any, *names: str | int) -> str:
    """Returns a string inside a JSON value.

    Raises:
        Broken: the value does not exist, or is no string.
    """
    found = field_of(value, *names)
    if not isinstance(found, str):
        raise Broken(f"{'.'.join(map(str, names))} is no string: {str(found)[:100]}")
    return found


def objects_of(value: Any, name: str) -> list[Json]:
    """Returns a list of objects inside a JSON object, which may be missing or null.

    Raises:
        Broken: it is something else.
    """
    found = value.get(name) or []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise Broken(f"{name} is no list of objects: {str(found)[:100]}")
    return found


def output_text(response: Json) -> str:
    """Returns the text of all messages in the output of a response."""
    return "".join(text for _, text in _messages(response))


def _messages(response: Json) -> list[tuple[str, str]]:
    found = []
    for item in objects_of(response, "output"):
        if item.get("type") == "message":
            parts = objects_of(item, "content")
            texts = (text_of(part, "text") for part in parts if part.get("type") == "output_text")
            found.append((str(item.get("id", "")), "".join(texts)))
    return found


def piece_of(event: Json) -> str:
    """Returns a short label of a delta: its number or, without one, the beginning of its text."""
    return str(event.get("sequence_number", repr(event.get("delta"))[:40]))


def summary(event: Json) -> str:
    """Returns an event as a short text, with the state of its response."""
    shown = f"{event.get('type')} {event.get('sequence_number', '')}".rstrip()
    response = event.get("response")
    if not isinstance(response, dict):
        return f"{shown} {json.dumps(event, ensure_ascii=False)}"
    state = {key: response.get(key) for key in ("id", "status", "error", "incomplete_details")}
    return f"{shown} {json.dumps({k: v for k, v in state.items() if v}, ensure_ascii=False)}"


def _number_of(event: Json) -> int | None:
    number = event.get("sequence_number")
    return number if isinstance(number, int) and not isinstance(number, bool) else None


@dataclass
class Answer:
    """The events of one response that one client has received, checked one by one.

    Attributes:
        cursor: the last sequence number; -1 before the first event.
        late: true if the client begins after the first event, and cannot know all items.
        texts: the text so far of each item, by its id.
        last: the terminal event, once it has arrived.
        unnumbered: the type of the first event without a sequence number, or "".
    """

    response_id: str = ""
    cursor: int = -1
    late: bool = False
    events: list[Json] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    last: Json | None = None
    unnumbered: str = ""

    def __post_init__(self) -> None:
        # The cursor with which the client has begun.
        self.since = self.cursor

    def add(self, event: Json) -> None:
        """Adds the next event.

        Raises:
            Broken: the event cannot follow those before it.
        """
        kind = text_of(event, "type")
        if kind == "error":
            # An error of the stream, which is not an event of the response.
            return
        number = _number_of(event)
        if number is None and not kind.startswith("response."):
            # The standard numbers each event of a response. Others are extensions.
            return
        if self.last is not None:
            shown = kind if number is None else f"event {number} ({kind})"
            raise Broken(f"{shown} follows the last event {self.last['type']}")
        if number is None:
            # The order of arrival counts instead. The case `stream.numbered` reports the event.
            self.unnumbered = self.unnumbered or kind
        elif number <= self.cursor:
            raise Broken(f"event {number} ({kind}) arrived after event {self.cursor}")
        else:
            self.cursor = number
        self.events.append(event)
        if not self.response_id and "response" in event:
            self.response_id = text_of(event, "response", "id")
        self._fold(kind, event)

    def _fold(self, kind: str, event: Json) -> None:
        match kind:
            case "response.output_item.added":
                item = text_of(event, "item", "id")
                if item in self.texts:
                    raise Broken(f"item {item} was added twice")
                self.texts[item] = ""
            case "response.output_text.delta":
                item = text_of(event, "item_id")
                if item not in self.texts and not self.late:
                    raise Broken("a delta arrived before response.output_item.added of its item")
                self.texts[item] = self.texts.get(item, "") + text_of(event, "delta")
            case "response.output_text.done":
                item, text = text_of(event, "item_id"), text_of(event, "text")
                if not self.late and self.texts.get(item) != text:
                    raise Broken("response.output_text.done differs from the deltas before it")
            case _:
                if kind in TERMINAL_EVENTS:
                    self.last = event
                    self._check_output(kind, self.final)

    def _check_output(self, kind: str, response: Json) -> None:
        if self.late:
            return
        for item, text in _messages(response):
            if item in self.texts and self.texts[item] != text:
                raise Broken(f"the output of {kind} differs from the deltas before it")
            if item not in self.texts:
                raise Broken(f"the output of {kind} has an item that was never added")

    def check_numbered(self) -> None:
        """Checks that each event has a sequence number.

        Raises:
            Broken: an event has none.
        """
        if self.unnumbered:
            raise Broken(f"{self.unnumbered} has no sequence_number")

    def check_resumable(self) -> None:
        """Checks that each event has a sequence number, without which no stream can be resumed.

        Raises:
            Broken: an event has none.
        """
        if self.unnumbered:
            raise Broken(
                f"{self.unnumbered} has no sequence_number, so the stream cannot be resumed"
            )

    @property
    def ended(self) -> bool:
        """True if the terminal event has arrived."""
        return self.last is not None

    @property
    def final(self) -> Json:
        """The response of the terminal event.

        Raises:
            Broken: it has not arrived.
        """
        if self.last is None:
            raise Broken(f"the stream ended after event {self.cursor} without a terminal event")
        response = field_of(self.last, "response")
        if not isinstance(response, dict):
            raise Broken(f"the response of {self.last['type']} is no object")
        return response

    @property
    def text(self) -> str:
        """The output text: of the terminal event, or else of the last item so far."""
        if self.last is not None:
            return output_text(self.final)
        return list(self.texts.values())[-1] if self.texts else ""

    @property
    def delta_text(self) -> str:
        """The text of the deltas of the items that are in the final output."""
        ids = [item for item, _ in _messages(self.final)]
        return "".join(self.texts.get(item, "") for item in ids)
