"""Defines the types of the events that `Answer.events` yields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server has stored the request. The answer now continues even without a connection."""

    id: str


@dataclass(frozen=True, slots=True)
class Queued:
    """The request waits in a queue.

    `position` counts from 1. If the request waits for a retry, `position` is None, and the retry is
    due in `eta_seconds`.
    """

    position: int | None
    eta_seconds: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the text."""

    text: str


@dataclass(frozen=True, slots=True)
class Restarted:
    """The answer starts over. All text so far is void, and a new attempt writes another text.

    `attempt` counts from 1.
    """

    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Item:
    """An output item of the current attempt is complete.

    `item` has the format of the Responses API.
    """

    item: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Connection:
    """The state of the connection has changed. The answer continues on the server in any case.

    `state` is `connecting`, `open`, `reconnecting` or `closed`.
    """

    state: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The answer has ended. `status` is `completed`, `incomplete`, `failed` or `cancelled`."""

    status: str
    response: dict[str, Any] | None


Event = Accepted | Queued | TextDelta | Restarted | Item | Connection | Ended
