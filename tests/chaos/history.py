"""The recorded history of a finished run, from which the checker draws its conclusions.

A trace contains, in order, everything that one client sent and received, but none of the client's
conclusions. This module does no I/O.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from tests.chaos.device_rules import Device, Observed

Event = dict[str, Any]
What = Literal["open", "sent", "received", "lost"]


class TraceEntry(NamedTuple):
    """One entry of a trace. `at` is a time of the monotonic clock.

    open      a connection was opened; `data` names the server
    sent      a message; an HTTP request is recorded as the equivalent message
    received  an event or message; an HTTP error is recorded as an `error` event
    lost      the connection ended, with the reason in `data["why"]`
    """

    at: float
    socket: int
    what: What
    data: Event


@dataclass
class ClientTrace:
    """All that a single client sent and received, on all its sockets."""

    client: str
    entries: MutableSequence[TraceEntry] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """The state of a response in Redis at the end of the run."""

    status: str
    attempt: int
    marker: str


@dataclass(frozen=True)
class Call:
    """A model call, whose text consists of `tokens` tokens of the form `c<number>t<index> `.

    The model has generated `generated` of them.
    """

    number: int
    marker: str
    tokens: int
    generated: int = 0

    @property
    def text(self) -> str:
        """The whole text of the call."""
        return "".join(f"c{self.number}t{index} " for index in range(self.tokens))


@dataclass
class History:
    """A finished run. `loss` is set if faults made Redis lose acknowledged writes.

    `keeps_output` is set if the models' endpoints keep all answers, or continue their text, so that
    no output in a log was generated again. `rude` is set if an endpoint may have continued an
    answer with another text, whose tokens begin with `x`. Such an answer must not be completed.
    """

    traces: list[ClientTrace]
    logs: dict[str, list[Event]]
    jobs: dict[str, Job]
    calls: list[Call]
    calm_at: float
    bound: float
    loss: bool = False
    keeps_output: bool = False
    rude: bool = False
    devices: list[Device] = field(default_factory=list)
    device_traces: list[ClientTrace] = field(default_factory=list)
    # The conversations of each user at the end of the run.
    observed: dict[str, list[Observed]] = field(default_factory=dict)
