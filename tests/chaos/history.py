"""The history of a run that is over: all that the checker reads. No I/O.

A trace is what one client sent and received, in order. Nothing that a client concluded is in it:
the checker draws its own conclusions.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Event = dict[str, Any]
What = Literal["open", "sent", "came", "lost"]


class TraceEntry(NamedTuple):
    """One entry of a trace; `at` is of the monotonic clock.

    open   `data` names the server
    sent   a message; requests over HTTP are told as the message that means the same
    came   an event or message; a refusal over HTTP is told as the `error` event
    lost   `data["why"]`; nothing more came on this socket
    """

    at: float
    socket: int
    what: What
    data: Event


@dataclass
class ClientTrace:
    """Everything that one client sent and received, on all its sockets."""

    client: str
    entries: MutableSequence[TraceEntry] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """How a response stands in Redis at the end."""

    status: str
    attempt: int
    marker: str


@dataclass(frozen=True)
class Call:
    """A call that the model has seen. Its text is `tokens` times `c<number>t<index> `."""

    number: int
    marker: str
    tokens: int


@dataclass
class History:
    """A run that is over. `loss` says that Redis was made to lose what it had acknowledged."""

    traces: list[ClientTrace]
    logs: dict[str, list[Event]]
    jobs: dict[str, Job]
    calls: list[Call]
    calm_at: float
    bound: float
    loss: bool = False
