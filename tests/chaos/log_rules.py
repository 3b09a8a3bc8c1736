"""The rules of a log, whether Redis has it at the end of a run or a client received it.

The model's tokens carry the number of their call and their place in it, `c17t4 `. So the text alone
shows where two calls were spliced, a token was lost or one was said twice.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.chaos.history import Call, Event

TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})
TOKEN = re.compile(r"c(\d+)t(\d+) ")

Complain = Callable[[str, str], None]


@dataclass
class Attempt:
    """What one attempt has written."""

    number: int
    text: str = ""
    items: dict[str, str] = field(default_factory=dict)
    call: int | None = None


class LogChecker:
    """Reads the events of one log in order; `complain(invariant, what is wrong)`."""

    def __init__(self, complain: Complain, marker: str, calls: dict[int, Call]) -> None:
        self._complain = complain
        self._marker = marker
        self._calls = calls
        self._number = 0
        self.attempts: list[Attempt] = []
        self.end: Event | None = None

    def read(self, events: Iterable[Event]) -> None:
        """Takes a log, or its beginning."""
        for number, event in enumerate(events):
            self._number = number
            self._one(event)
        for attempt in self.attempts:
            self._text(attempt)
        if self.end is not None:
            self._ending(self.end)

    def _wrong(self, invariant: str, what: str) -> None:
        self._complain(invariant, f"entry {self._number}: {what}")

    def _one(self, event: Event) -> None:
        kind = event["type"]
        if self.end is not None:
            self._wrong("I3", f"{kind} after the last event")
            return
        if (self._number < 2) != (kind in ("response.created", "response.queued")):
            self._wrong("I1", f"{kind} in this place")
        if "response" in event:
            found = (event["response"].get("metadata") or {}).get("marker")
            if found != self._marker:
                self._wrong("I7", f"{kind} shows the marker {found}, not {self._marker}")
        match kind:
            case "response.created" | "response.queued":
                pass
            case "response.in_progress":
                if self.attempts and self.attempts[-1].number == 1:
                    self._wrong("I1", "the first attempt begins twice")
                elif not self.attempts:
                    self.attempts.append(Attempt(1))
            case "holdline:restarted":
                last = self.attempts[-1].number if self.attempts else 0
                if event["attempt"] <= max(last, 1):
                    self._wrong("I2", f"attempt {event['attempt']} after attempt {last}")
                self.attempts.append(Attempt(event["attempt"]))
            case _ if kind in TERMINAL:
                self.end = event
            case _:
                self._of_item(event)

    def _of_item(self, event: Event) -> None:
        kind = event["type"]
        item_id: str = event.get("item_id") or event["item"]["id"]
        if not self.attempts:
            self._wrong("I1", f"{kind} before any attempt")
            return
        attempt = self.attempts[-1]
        if kind == "response.output_item.added":
            if any(item_id in other.items for other in self.attempts):
                self._wrong("I1", f"item {item_id} is added twice")
            attempt.items[item_id] = ""
            return
        if item_id not in attempt.items:
            old = any(item_id in other.items for other in self.attempts)
            self._wrong("I2" if old else "I1", f"{kind} of an item that is not attempt's own")
            return
        match kind:
            case "response.output_text.delta":
                attempt.items[item_id] += event["delta"]
                attempt.text += event["delta"]
            case "response.output_text.done":
                self._same(event["text"], attempt.items[item_id], kind)
            case "response.content_part.done":
                self._same(event["part"]["text"], attempt.items[item_id], kind)
            case "response.output_item.done":
                self._same(_text([event["item"]]), attempt.items[item_id], kind)
            case _:
                pass

    def _same(self, told: str, had: str, kind: str) -> None:
        if told != had:
            self._wrong("I5", f"{kind} says {told[-40:]!r}, the deltas said {had[-40:]!r}")

    def _text(self, attempt: Attempt) -> None:
        tokens = TOKEN.findall(attempt.text)
        if "".join(f"c{call}t{index} " for call, index in tokens) != attempt.text:
            self._wrong("I1", f"text that no model said: {attempt.text[-60:]!r}")
        calls = sorted({int(call) for call, _ in tokens})
        if len(calls) > 1:
            self._wrong("I2", f"attempt {attempt.number} holds text of the calls {calls}")
        elif [int(index) for _, index in tokens] != list(range(len(tokens))):
            self._wrong("I1", f"attempt {attempt.number} lost or repeated a token")
        if not calls:
            return
        attempt.call = calls[0]
        for call in calls:
            said = self._calls.get(call)
            if said is None or said.marker != self._marker:
                whose = said and said.marker
                self._wrong("I7", f"text of call {call}, which was for {whose}")
        for other in self.attempts:
            if other is not attempt and other.call == attempt.call:
                self._wrong("I2", f"two attempts hold text of call {attempt.call}")

    def _ending(self, end: Event) -> None:
        response = end["response"]
        text = _text(response["output"])
        said = self.attempts[-1].text if self.attempts else ""
        if text != said:
            self._wrong("I5", f"the end says {text[-40:]!r}, the log said {said[-40:]!r}")
        trailer = response["holdline"]
        if trailer["sha256"] != hashlib.sha256(said.encode()).hexdigest():
            self._wrong("I5", "the checksum is not that of the text")
        if trailer["bytes"] != len(said.encode()):
            self._wrong(
                "I5", f"the last event says {trailer['bytes']} bytes, not {len(said.encode())}"
            )
        if self.attempts and trailer["attempts"] < self.attempts[-1].number:
            self._wrong("I6", f"the end says {trailer['attempts']} attempts")
        if end["type"] == "response.completed":
            call = self._calls.get(self.attempts[-1].call or 0) if self.attempts else None
            tokens = len(TOKEN.findall(said))
            if call is None or tokens != call.tokens:
                self._wrong("G7", f"completed with {tokens} tokens of {call and call.tokens}")


def _text(items: list[Event]) -> str:
    return "".join(part["text"] for item in items for part in item.get("content", ()))
