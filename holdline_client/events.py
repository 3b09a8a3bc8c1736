"""The events that `Answer.events` yields, each as a type of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server keeps the request; from now on the answer is made, whoever is connected."""

    id: str


@dataclass(frozen=True, slots=True)
class Queued:
    """The request waits. `position` counts from 1; None before a retry, due in `eta_seconds`."""

    position: int | None
    eta_seconds: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the text."""

    text: str


@dataclass(frozen=True, slots=True)
class Restarted:
    """All text so far is void: another attempt, counted from 1, writes a new text."""

    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Item:
    """An output item of the present attempt is done, as the standard shapes it."""

    item: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Connection:
    """`connecting`, `open`, `reconnecting` or `closed`. The answer goes on meanwhile."""

    state: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The last event. `status` is `completed`, `incomplete`, `failed` or `cancelled`."""

    status: str
    response: dict[str, Any] | None


Event = Accepted | Queued | TextDelta | Restarted | Item | Connection | Ended
