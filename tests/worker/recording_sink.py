"""A sink that encodes events as a log does, and keeps the encoded entries."""

from __future__ import annotations

from typing import Any

from jobs.log.codec import Event, decode_event, encode_event
from jobs.log.items import Place, delta


class RecordingSink:
    """Receives a flusher's calls. `events` contains the decoded entries."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, *events: Event) -> None:
        self.events += [decode_event(encode_event(event)) for event in events]

    def add_text(self, place: Place, text: str, logprobs: list[Any] | None = None) -> None:
        self.add(delta(place, text, logprobs))
