"""What the scripts of the queue answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import Fenced, Gone, IdempotencyKeyReused, Limited, QueueFull, RedisRefused
from .names import model_of

if TYPE_CHECKING:
    from .record import SharedSettings


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a tenant may in a minute and a day, and has left; a limit of 0 is none."""

    requests: int
    requests_left: int
    tokens: int
    tokens_left: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """A submitted response. `fresh` is False where the idempotency key had made it before."""

    response_id: str
    number: int
    fresh: bool
    allowance: Allowance | None = field(default=None, compare=False)


class Grant(NamedTuple):
    """A job that a worker holds under `claim` until its lease runs out.

    `job` is undecoded: bytes that cannot be decoded are the worker's to bury. `reason` says why it
    waited again or must be ended: "" at first, else `worker_lost`, `cancelled`, `expired`, or the
    reason that a retry gave. `length` is the log's. `waited_ms` is since submit.
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

    @property
    def model(self) -> str:
        """The model for which it waited; "" where the queue does not tell them apart."""
        return model_of(self.queue_name)


def accepted(response_id: str, reply: object, settings: SharedSettings) -> Accepted:
    """What `submit` or `submit_completed` made of a response with this id.

    Raises: IdempotencyKeyReused, QueueFull, Limited.
    """
    match reply:
        case [b"accepted", _, int(number)]:
            return Accepted(response_id, number, fresh=True)
        case [b"accepted", _, int(number), int(most), int(left), int(tokens), int(tokens_left)]:
            allowance = Allowance(most, left, tokens, tokens_left)
            return Accepted(response_id, number, fresh=True, allowance=allowance)
        case [b"same", bytes(first)]:
            return Accepted(first.decode(), 0, fresh=False)
        case [b"reused", bytes(first)]:
            raise IdempotencyKeyReused(first.decode())
        case [b"full", int(waiting)]:
            raise QueueFull(waiting, settings.max_waiting)
        case [b"full", int(waiting), b"bytes"]:
            raise QueueFull(waiting, settings.max_waiting_bytes, "bytes of prompts")
        case [b"limited", bytes(what), bytes(limit), int(wait)]:
            raise Limited(what.decode(), float(limit), wait / 1000)
        case _:
            raise RedisRefused("submit: unexpected reply")


def granted(claim: str, row: list[Any]) -> Grant:
    """A job that `claim` or `rescue` hands out."""
    id_, job, attempt, failures, cancelled, reason, waited, length, queue_name = row
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
    )


def check_held(response_id: str, reply: object) -> None:
    """Returns where the job was still its claim's. Raises: Fenced, Gone."""
    match reply:
        case [b"ok"]:
            return
        case [b"gone"]:
            raise Gone(response_id)
        case [b"fenced"]:
            raise Fenced(response_id)
        case _:
            raise RedisRefused("unexpected reply")
