"""Decodes the replies of the Lua scripts that change the queue."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import (
    Fenced,
    Gone,
    IdempotencyKeyReused,
    Limited,
    QueueFull,
    RedisRefused,
    SteersTaken,
)
from .names import model_of

if TYPE_CHECKING:
    from .record import SharedSettings


@dataclass(frozen=True, slots=True)
class Allowance:
    """A tenant's limits of requests per minute and tokens per day, and how many of each remain.

    A limit of 0 means no limit.
    """

    requests: int
    requests_left: int
    tokens: int
    tokens_left: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """A submitted response.

    `fresh` is False if an earlier request with the same idempotency key created the response.
    `number` is the job's number in its tenant's waiting list.
    """

    response_id: str
    number: int
    fresh: bool
    allowance: Allowance | None = field(default=None, compare=False)
    trace: str = field(default="", compare=False)


class Grant(NamedTuple):
    """A job that was assigned to a worker, which holds it under `claim` until the lease expires.

    `job` is not decoded here, so the worker can move undecodable bytes to the dead list. `reason`
    is "" at the first attempt. Later it says why the job was queued again or must be ended:
    `worker_lost`, `cancelled`, `expired`, or the reason of a retry. `length` is the number of
    entries in the log. `waited_ms` is the time since the submission. `steers` is the number of the
    response's steers. `checkpoint` is the encoded checkpoint of the log, or empty.
    `may_lack_entries` is True if Redis may have lost entries of the log since it stored the first
    checkpoint. `trace` is the context of the response's trace, or "". `queued_ms` is the time since
    the submission, or since the end of the last attempt. `lost_ms` is the time from the claim of
    the last attempt to the loss of its worker, or 0 if its worker was not lost.
    """

    response_id: str
    claim: str
    job: bytes
    attempt: int
    failures: int
    cancelled: bool
    reason: str
    waited_ms: int
    length: int
    queue_name: str = ""
    steers: int = 0
    checkpoint: bytes = b""
    may_lack_entries: bool = False
    trace: str = ""
    queued_ms: int = 0
    lost_ms: int = 0

    @property
    def model(self) -> str:
        """The model of the job's queue, or "" if the queue has jobs of different models."""
        return model_of(self.queue_name)


class Claimed(list[Grant]):
    """The jobs of one claim.

    `more` is True if the next claim may return further jobs. `blocked` is True if jobs are waiting
    that the limits of their models did not allow to begin.
    """

    def __init__(self, grants: list[Grant], left: int) -> None:
        super().__init__(grants)
        self.blocked, self.more = left == 1, left == 2  # as in claim.lua


def accepted(response_id: str, reply: object, settings: SharedSettings) -> Accepted:
    """Decodes the reply of the script `submit` or `submit_completed` for a response.

    Raises: IdempotencyKeyReused, QueueFull, Limited, SteersTaken.
    """
    match reply:
        case [b"accepted", _, int(number)]:
            return Accepted(response_id, number, fresh=True)
        case [b"accepted", _, int(number), int(most), int(left), int(tokens), int(tokens_left)]:
            allowance = Allowance(most, left, tokens, tokens_left)
            return Accepted(response_id, number, fresh=True, allowance=allowance)
        case [b"taken"]:
            raise SteersTaken
        case [b"same", bytes(first), bytes(trace)]:
            return Accepted(first.decode(), 0, fresh=False, trace=trace.decode())
        case [b"reused", bytes(first), bytes()]:
            raise IdempotencyKeyReused(first.decode())
        case [b"full", int(waiting)]:
            raise QueueFull(waiting, settings.max_waiting)
        case [b"full", int(waiting), b"bytes"]:
            raise QueueFull(waiting, settings.max_waiting_bytes, "bytes of prompts")
        case [b"limited", bytes(what), bytes(limit), int(wait)]:
            raise Limited(what.decode(), float(limit), wait / 1000)
        case _:
            raise RedisRefused("the `submit` script returned an unexpected reply")


def granted(claim: str, row: list[Any]) -> Grant:
    """Decodes a job that the script `claim` or `rescue` has assigned to the caller."""
    id_, job, attempt, failures, cancelled, reason, waited, length, queue_name, *more = row
    steers, checkpoint, lacking, trace, queued_ms, lost_ms = more
    return Grant(
        id_.decode(),
        claim,
        job,
        attempt,
        failures,
        bool(cancelled),
        reason.decode(),
        waited,
        length,
        queue_name.decode(),
        steers,
        checkpoint,
        bool(lacking),
        trace.decode(),
        queued_ms,
        lost_ms,
    )


def check_held(response_id: str, reply: object) -> None:
    """Checks the reply of a script that needs a valid claim. Raises: Fenced, Gone."""
    match reply:
        case [b"ok"]:
            return
        case [b"gone"]:
            raise Gone(response_id)
        case [b"fenced"]:
            raise Fenced(response_id)
        case _:
            raise RedisRefused("a script returned an unexpected reply")
