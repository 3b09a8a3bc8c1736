"""Builds the state of one response from its events.

The state always corresponds to a prefix of the response's log. An event that was applied before is
dropped. An event that does not follow the last applied event is reported as a gap and not applied.
Therefore a gap is never hidden or filled with later text. `web/response-state.js` implements the
same rules, and tests/vectors/response-state.json tests both implementations.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Literal

Status = Literal[
    "sending", "queued", "in_progress", "completed", "incomplete", "failed", "cancelled"
]

ENDS: Final = frozenset({"completed", "incomplete", "failed", "cancelled"})
_TERMINAL: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})


class Outcome(Enum):
    """The result of applying an event."""

    APPLIED = "applied"
    SEEN = "seen"  # the event was applied before, or arrived after the response's end
    GAP = "gap"  # events before this event are missing: resume after `last`
    IGNORED = "ignored"  # the message is not an event of the log


@dataclass(frozen=True, slots=True)
class Wait:
    """The wait of a request in the queue.

    `position` counts from 1. It is None if the request waits for a retry that is not due yet.
    """

    position: int | None
    eta_seconds: float | None
    reason: str | None


@dataclass(slots=True)
class _Item:
    id: str
    texts: dict[int, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return "".join(text for _, text in sorted(self.texts.items()))


class ResponseState:
    """The state of the answer so far. A resume continues after the sequence number `last`.

    `item_id` is the item id of the last event: "" if the event belongs to no item, and None if the
    item is unknown. `shown` describes the last event in a resume.

    `text` is all output text of the current attempt, and `deltas` contains its pieces in the order
    of arrival. While `generation` stays the same, pieces are only appended to `deltas`. When
    `generation` changes, all earlier deltas become void. If the state begins in the middle of a
    log, `deltas` contains only the text after that point, and `text` is complete only at the end.
    """

    def __init__(
        self, response_id: str | None = None, after: int = -1, item_id: str | None = None
    ) -> None:
        self.response_id = response_id
        self.last = after
        self.item_id = item_id
        self._event_type: str | None = None
        self.status: Status = "sending"
        self.attempts = 0
        self.model: str | None = None
        self.wait: Wait | None = None
        self.restart_reason = ""
        self.response: dict[str, Any] | None = None
        self.done_items: list[dict[str, Any]] = []
        self.deltas: list[str] = []
        self.generation = 0
        self._items: dict[int, _Item] = {}
        self._whole = after < 0
        # The output index and the content index of the last part. Text for an earlier part must not
        # be appended at the end of `deltas`.
        self._tip = (-1, -1)

    @property
    def ended(self) -> bool:
        """True after the last event of the response."""
        return self.status in ENDS

    @property
    def text(self) -> str:
        """All output text of the current attempt, in the order of its items and parts."""
        return "".join(item.text for _, item in sorted(self._items.items()))

    @property
    def trailer(self) -> dict[str, Any]:
        """The `holdline` object of the last event: checksum, length, attempts and timing."""
        found = (self.response or {}).get("holdline")
        return found if isinstance(found, dict) else {}

    def apply(self, event: dict[str, Any]) -> Outcome:
        """Applies one event. If the outcome is GAP, the caller must resume after `last`."""
        if event["type"] == "holdline:queued":
            return self._queued(event)
        number = event.get("sequence_number")
        if not isinstance(number, int) or event["type"] == "holdline:ended":
            return Outcome.IGNORED
        if self.ended or number <= self.last:
            return Outcome.SEEN
        self.response_id = self.response_id or _id_in(event)
        if number > self.last + 1:
            return Outcome.GAP
        self.last = number
        self.item_id = event.get("item_id") or (event.get("item") or {}).get("id") or ""
        self._event_type = event["type"]
        self._apply(event)
        return Outcome.APPLIED

    def step_back(self) -> None:
        """Decrements `last`, so that the server sends the last event again after a resume."""
        self.last -= 1
        self.item_id = self._event_type = None

    @property
    def shown(self) -> dict[str, str]:
        """The known fields of the last event.

        The server compares them with its log, to detect that the log has lost the event.
        """
        known = {"item_id": self.item_id, "event_type": self._event_type}
        return {name: value for name, value in known.items() if value is not None}

    def start_over(self) -> ResponseState:
        """Returns a state without events, for use after the server's storage has lost events."""
        fresh = ResponseState(self.response_id)
        fresh.attempts, fresh.generation = self.attempts + 1, self.generation + 1
        fresh.restart_reason = "storage_loss"
        return fresh

    def take_over(self, other: ResponseState) -> None:
        """Takes the deltas of another state of the same log, and adds the text that they lack."""
        self.deltas, self.generation = list(other.deltas), other.generation
        self._extend_to(self.text)

    def withdraw(self) -> None:
        """Marks the response as cancelled, because its request was never sent."""
        if not self.ended:
            self.status = "cancelled"

    def fail(self) -> None:
        """Marks the response as failed for a reason that is not in its log."""
        if not self.ended:
            self.status = "failed"

    def verified(self) -> bool | None:
        """Returns True if the text matches the checksum, or None if there is no checksum."""
        text = self.text.encode("utf-8", "surrogatepass")
        size, digest = self.trailer.get("bytes"), self.trailer.get("sha256")
        if isinstance(size, int) and size != len(text):
            return False
        if not isinstance(digest, str):
            return None
        return hashlib.sha256(text).hexdigest() == digest.lower()

    def _queued(self, event: dict[str, Any]) -> Outcome:
        self.response_id = self.response_id or event.get("response_id")
        if self.ended:
            return Outcome.SEEN
        if self.status == "sending":
            self.status = "queued"
        self.wait = Wait(event.get("position"), event.get("eta_seconds"), event.get("reason"))
        return Outcome.APPLIED

    def _apply(self, event: dict[str, Any]) -> None:
        response = event.get("response") or {}
        self.model = response.get("model") or self.model
        match event["type"]:
            case kind if kind in _TERMINAL:
                self._end(response)
            case "response.created" | "response.queued":
                # The response in this event may already be `in_progress`, because a worker may
                # start before the log shows it. A later status is never replaced by an earlier one.
                if self.status == "sending":
                    running = response.get("status") == "in_progress"
                    self.status = "in_progress" if running else "queued"
            case "holdline:restarted":
                self._restart(event.get("attempt"), event.get("reason") or "")
            case "response.in_progress":
                self._mark_started()
            case "response.output_item.added":
                self._mark_started()
                self._put(event["output_index"], _Item((event.get("item") or {}).get("id") or ""))
            case "response.output_item.done":
                self.done_items.append(event.get("item") or {})
            case "response.output_text.delta":
                self._mark_started()
                self._add_text(event, event.get("delta") or "")
            case "response.output_text.done":
                self._item(event).texts[event["content_index"]] = event.get("text") or ""
                self._extend_to(self.text)
            case _:
                pass  # the event changes nothing except the last sequence number

    def _mark_started(self) -> None:
        self.status = "in_progress"
        self.wait = None
        self.attempts = max(self.attempts, 1)

    def _restart(self, attempt: int | None, reason: str) -> None:
        # The next attempt starts without text, so that the texts of two attempts are never mixed.
        self._items.clear()
        self.done_items.clear()
        self.attempts = attempt or self.attempts + 1
        self.restart_reason = reason
        self._whole = True
        self._tip = (-1, -1)
        self._reset_deltas()
        self._mark_started()

    def _reset_deltas(self) -> None:
        self.deltas = []
        self.generation += 1

    def _put(self, index: int, item: _Item) -> None:
        before = self._items.get(index)
        self._items[index] = item
        if before is not None and before.text:
            self._extend_to(self.text)

    def _item(self, event: dict[str, Any]) -> _Item:
        """Returns the item of an event. An item with another id at the same index is replaced."""
        index, id_ = event["output_index"], event.get("item_id")
        item = self._items.get(index)
        if item is None or (id_ is not None and item.id != id_):
            item = _Item(id_ or "")
            self._put(index, item)
        return item

    def _add_text(self, event: dict[str, Any], delta: str) -> None:
        texts, part = self._item(event).texts, event["content_index"]
        texts[part] = texts.get(part, "") + delta
        if (place := (event["output_index"], part)) >= self._tip:
            self._tip = place
            if delta:
                self.deltas.append(delta)
        else:
            self._extend_to(self.text)

    def _extend_to(self, text: str) -> None:
        """Makes the joined `deltas` equal to `text`, by appending to them if possible."""
        known = "".join(self.deltas)
        if not self._whole:
            # The text before the starting point is unknown until the end of the response.
            return
        if not text.startswith(known):
            self._reset_deltas()
            known = ""
        if len(text) > len(known):
            self.deltas.append(text[len(known) :])

    def _end(self, response: dict[str, Any]) -> None:
        status = response.get("status")
        self.status = status if status in ENDS else "failed"
        self.wait = None
        self.response = response
        self.attempts = self.trailer.get("attempts", self.attempts)
        # The final output contains everything from the last attempt. If a failed response has no
        # output, its partial text stays.
        output = response.get("output")
        if isinstance(output, list) and (output or self.status != "failed"):
            self._items = _items_of(output)
        text = self.text
        if not self._whole and text.endswith("".join(self.deltas)):
            return
        self._whole = True
        self._extend_to(text)


def _id_in(event: dict[str, Any]) -> str | None:
    found = (event.get("response") or {}).get("id") or event.get("response_id")
    return found if isinstance(found, str) else None


def _items_of(output: list[dict[str, Any]]) -> dict[int, _Item]:
    items = {}
    for index, item in enumerate(output):
        if item.get("type") == "message":
            parts = enumerate(item.get("content") or [])
            texts = {at: p["text"] for at, p in parts if p.get("type") == "output_text"}
            items[index] = _Item(item.get("id") or "", texts)
    return items
