"""Checks a log that was read from Redis after a run or received by a client.

Each token of the model contains the number of its call and its index, as in `c17t4 `. So the text
alone shows whether calls were spliced or tokens were lost or repeated.
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
    """The output of one attempt."""

    number: int
    text: str = ""
    items: dict[str, str] = field(default_factory=dict)
    call: int | None = None


class LogChecker:
    """Reads the events of one log in order and reports violations with `complain`."""

    def __init__(
        self, complain: Complain, marker: str, calls: dict[int, Call], *, rude: bool = False
    ) -> None:
        self._complain = complain
        self._rude = rude
        self._marker = marker
        self._calls = calls
        self._number = 0
        self.attempts: list[Attempt] = []
        self.continuations = 0
        self.end: Event | None = None

    def read(self, events: Iterable[Event]) -> None:
        """Checks a complete log or a prefix of a log."""
        for number, event in enumerate(events):
            self._number = number
            self._check_event(event)
        for attempt in self.attempts:
            self._text(attempt)
        if self.end is not None:
            self._check_end(self.end)

    def _wrong(self, invariant: str, what: str) -> None:
        self._complain(invariant, f"entry {self._number}: {what}")

    def _check_event(self, event: Event) -> None:
        kind = event["type"]
        if self.end is not None:
            self._wrong("I3", f"{kind} after the terminal event")
            return
        if (self._number < 2) != (kind in ("response.created", "response.queued")):
            self._wrong("I1", f"{kind} at the wrong position")
        if "response" in event:
            found = (event["response"].get("metadata") or {}).get("marker")
            if found != self._marker:
                self._wrong("I7", f"{kind} has the marker {found} instead of {self._marker}")
        match kind:
            case "response.created" | "response.queued":
                pass
            case "response.in_progress":
                if self.attempts and self.attempts[-1].number == 1:
                    self._wrong("I1", "the first attempt starts twice")
                elif not self.attempts:
                    self.attempts.append(Attempt(1))
            case "holdline:restarted":
                last = self.attempts[-1].number if self.attempts else 0
                if event["attempt"] <= max(last, 1):
                    self._wrong("I2", f"attempt {event['attempt']} after attempt {last}")
                self.attempts.append(Attempt(event["attempt"]))
            case "holdline:continued":
                self._continue(event)
            case _ if kind in TERMINAL:
                self.end = event
            case _:
                self._check_item_event(event)

    def _continue(self, event: Event) -> None:
        """Checks that the next attempt continues the text of the last one exactly at its end."""
        self.continuations += 1
        last = self.attempts[-1] if self.attempts else Attempt(0)
        if event["attempt"] <= last.number:
            self._wrong("I2", f"attempt {event['attempt']} after attempt {last.number}")
        text = last.items.get(event["item_id"], "")
        if not text or event["at"] != len(text):
            self._wrong("I5", f"continues at {event['at']} of a text of {len(text)} characters")
        last.number = event["attempt"]

    def _check_item_event(self, event: Event) -> None:
        kind = event["type"]
        item_id: str = event.get("item_id") or event["item"]["id"]
        if not self.attempts:
            self._wrong("I1", f"{kind} before any attempt")
            return
        attempt = self.attempts[-1]
        if kind == "response.output_item.added":
            if any(item_id in other.items for other in self.attempts):
                self._wrong("I1", f"item {item_id} was added twice")
            attempt.items[item_id] = ""
            return
        if item_id not in attempt.items:
            old = any(item_id in other.items for other in self.attempts)
            self._wrong("I2" if old else "I1", f"{kind} of an item of another attempt")
            return
        match kind:
            case "response.output_text.delta":
                attempt.items[item_id] += event["delta"]
                attempt.text += event["delta"]
            case "response.output_text.done":
                self._check_equal(event["text"], attempt.items[item_id], kind)
            case "response.content_part.done":
                self._check_equal(event["part"]["text"], attempt.items[item_id], kind)
            case "response.output_item.done":
                self._check_equal(_text([event["item"]]), attempt.items[item_id], kind)
            case _:
                pass

    def _check_equal(self, told: str, had: str, kind: str) -> None:
        if told != had:
            self._wrong("I5", f"{kind} has {told[-40:]!r}, but the deltas have {had[-40:]!r}")

    def _text(self, attempt: Attempt) -> None:
        """Checks that the text is the beginning of a call's text.

        A delta has a maximum length, so the text may end within a token. The first delta is longer
        than a token.
        """
        text = attempt.text
        completed = self.end is not None and self.end["type"] == "response.completed"
        if self._rude and not (completed and attempt is self.attempts[-1]):
            text = text[0:1] + text[1:].partition("x")[0]
        text = self._as_sent(text)
        calls = sorted({int(call) for call, _ in TOKEN.findall(text)})
        said = [self._calls.get(call) for call in calls]
        for call, one in zip(calls, said, strict=True):
            if one is None or one.marker != self._marker:
                whose = one and one.marker
                self._wrong("I7", f"text of call {call}, which belongs to {whose}")
        if len(calls) > 1:
            self._wrong("I2", f"attempt {attempt.number} has text of the calls {calls}")
        elif text and not any(one and one.text.startswith(text) for one in said):
            self._wrong("I1", f"text that the model did not send: {text[-60:]!r}")
        if not calls:
            return
        attempt.call = calls[0]
        for other in self.attempts:
            if other is not attempt and other.call == attempt.call:
                self._wrong("I2", f"two attempts have text of call {attempt.call}")

    def _as_sent(self, text: str) -> str:
        """Undoes the change of a rude endpoint, if it has changed the whole text."""
        return text.replace("x", "c") if self._rude and text.startswith("x") else text

    def _check_end(self, end: Event) -> None:
        response = end["response"]
        text = _text(response["output"])
        said = self.attempts[-1].text if self.attempts else ""
        if text != said:
            self._wrong(
                "I5", f"the terminal event has {text[-40:]!r}, but the log has {said[-40:]!r}"
            )
        trailer = response["holdline"]
        if trailer["sha256"] != hashlib.sha256(said.encode()).hexdigest():
            self._wrong("I5", "the checksum does not match the text")
        if trailer["bytes"] != len(said.encode()):
            self._wrong(
                "I5",
                f"the terminal event has {trailer['bytes']} bytes instead of {len(said.encode())}",
            )
        if self.attempts and trailer["attempts"] < self.attempts[-1].number:
            self._wrong("I6", f"the terminal event has {trailer['attempts']} attempts")
        if end["type"] == "response.completed":
            call = self._calls.get(self.attempts[-1].call or 0) if self.attempts else None
            tokens = len(TOKEN.findall(self._as_sent(said)))
            if call is None or tokens != call.tokens:
                self._wrong("G7", f"completed with {tokens} tokens of {call and call.tokens}")


def _text(items: list[Event]) -> str:
    return "".join(part["text"] for item in items for part in item.get("content", ()))
