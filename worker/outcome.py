"""Decides what follows a model call: the response ends, or another attempt is made.

The whole policy is one table.

    what happened                               the last attempt      an earlier one
    stop                                        completed             completed
    length, content_filter                      incomplete            incomplete
    cancelled                                   cancelled             cancelled
    refused for good, too long, over time,
      a reason for stopping that is not known   failed                failed
    busy                                        failed                retry when the provider says
    unavailable, silent, cut, malformed, ...    failed                retry after a backoff
    this worker lacks files or memory           given back            given back

Completed means whole: only the provider's own reason for stopping leads there.

The table decides for one job. A provider's 429 also pauses its model for all workers; that second
wait is decided in `worker.execute`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from jobs.record import Status


class Then(Enum):
    """What follows from a cause."""

    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    CANCELLED = "cancelled"
    FAILED = "failed"
    RETRY = "retry"
    GIVE_BACK = "give back"


@dataclass(frozen=True, slots=True)
class Cause:
    """One row. `message` is what a client reads where the cause ends its response as failed:
    written here, never the provider's words, and it says what to do.
    """

    then: Then
    message: str = ""


_TRY_LATER = "Try again later."

CAUSES: Final[dict[str, Cause]] = {
    # The provider's reasons for stopping, by their own names.
    "stop": Cause(Then.COMPLETED),
    "length": Cause(Then.INCOMPLETE),
    "content_filter": Cause(Then.INCOMPLETE),
    "cancelled": Cause(Then.CANCELLED),
    # Another attempt would end in the same way.
    "upstream_rejected": Cause(
        Then.FAILED,
        "The model's endpoint refused the request. "
        "Check its parameters and the length of its input.",
    ),
    "upstream_input_too_long": Cause(
        Then.FAILED,
        # LiteLLM recognises this failure by "is longer than the model's context length".
        "The input is longer than the model's context length. "
        "Shorten it, or ask with truncation auto.",
    ),
    "upstream_unauthorized": Cause(
        Then.FAILED,
        "The model's endpoint refused this server's credentials or account. "
        "The operator must check its key, its quota and its payment.",
    ),
    "upstream_model_not_found": Cause(
        Then.FAILED,
        "The model's endpoint does not know this model. Name another one.",
    ),
    "upstream_over_time": Cause(
        Then.FAILED,
        "The model took longer than allowed; what it had written is kept. "
        "Ask for a shorter answer.",
    ),
    "output_too_long": Cause(
        Then.FAILED,
        "The answer was longer than allowed; its beginning is kept. Ask for a shorter one.",
    ),
    # Whether the answer is whole is not known, so it is not completed. The endpoint means the same
    # by its word each time, so another call would be paid for in vain.
    "upstream_stopped": Cause(
        Then.FAILED,
        "The model stopped for a reason that is not known here; what it had written is kept. "
        "The operator must check what its endpoint means.",
    ),
    "unsupported_input": Cause(
        Then.FAILED,
        "The input has a kind of item or content that is not supported yet. Send text.",
    ),
    "context_lost": Cause(
        Then.FAILED,
        "Redis lost an earlier turn of this conversation. Send the whole conversation.",
    ),
    # Another attempt may succeed.
    "upstream_busy": Cause(Then.RETRY, f"The model's endpoint is busy. {_TRY_LATER}"),
    "upstream_key_unavailable": Cause(
        Then.RETRY,
        "This server has no key for the model's endpoint just now. "
        "Try again later; if it lasts, tell the operator.",
    ),
    "upstream_unavailable": Cause(
        Then.RETRY, f"The model's endpoint could not be reached or failed. {_TRY_LATER}"
    ),
    "upstream_timeout": Cause(
        Then.RETRY, f"The model did not begin to answer in time. {_TRY_LATER}"
    ),
    "upstream_stalled": Cause(
        Then.RETRY,
        f"The model fell silent in mid-answer; what it had written is kept. {_TRY_LATER}",
    ),
    "upstream_truncated": Cause(
        Then.RETRY,
        f"The model's stream ended before its answer did; what had come is kept. {_TRY_LATER}",
    ),
    "upstream_malformed": Cause(
        Then.RETRY,
        "The model's endpoint sent something that is not a stream of an answer. "
        "Try again later; if it lasts, the operator must check the endpoint's address.",
    ),
    "upstream_error": Cause(
        Then.RETRY, f"The model's endpoint reported an error in mid-stream. {_TRY_LATER}"
    ),
    "tool_not_allowed": Cause(
        Then.RETRY,
        "The model called a function that the request does not allow. "
        "Allow it, or describe better when to call which.",
    ),
    "log_lost": Cause(Then.RETRY, f"Redis lost a part of this response. {_TRY_LATER}"),
    "worker_error": Cause(
        Then.RETRY, "The worker met an error of its own. Try again; if it lasts, tell the operator."
    ),
    "key_missing": Cause(
        Then.RETRY,
        "The stored request is encrypted with a key that its worker does not have. "
        "Try again later; if it lasts, tell the operator.",
    ),
    # Another worker may have what this one lacks; the provider has done nothing wrong.
    "worker_exhausted": Cause(Then.GIVE_BACK),
    # What a rescue ends without a model call.
    "worker_lost": Cause(
        Then.FAILED, f"The worker was lost in mid-answer; what it had written is kept. {_TRY_LATER}"
    ),
    "queue_timeout": Cause(
        Then.FAILED, f"No worker was free within the time that a prompt may wait. {_TRY_LATER}"
    ),
    "undecodable": Cause(
        Then.FAILED,
        "The stored request could not be read. Send it again; if it lasts, tell the operator.",
    ),
}

# Calls of functions end an answer as its last word does: what follows is the client's turn.
_REASONS: Final = {
    "stop": "stop",
    "tool_calls": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "error": "upstream_error",
    "busy": "upstream_busy",
}
_INCOMPLETE_REASON: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}


def cause_of(finish_reason: str) -> str:
    """The row for a reason for stopping, in the words of `upstream.finish_reasons`."""
    return _REASONS.get(finish_reason, "upstream_stopped")


@dataclass(frozen=True, slots=True)
class Finished:
    """The response ends. `code` and `message` are for `failed`, `reason` is for `incomplete`."""

    status: Status
    code: str | None = None
    message: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """Another attempt is worth it, in so many ms; `reason` is what its client is told."""

    delay_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class GiveBack:
    """The job goes back to the front of the queue; `reason` is what its client is told."""

    reason: str


Decision = Finished | RetryAfter | GiveBack


@dataclass(frozen=True, slots=True)
class Policy:
    """How often and how soon to try again. Times in ms."""

    max_attempts: int = 3
    first_delay_ms: int = 500
    max_delay_ms: int = 30_000
    # A provider may ask for hours. A client is better served by a failure.
    max_retry_after_ms: int = 120_000


def decide(
    cause: str, *, failures: int, policy: Policy, jitter: float, retry_after: float | None = None
) -> Decision:
    """Returns what follows from a cause.

    `failures` counts the attempts that went wrong before this one. `retry_after` is what the
    provider asked for, in seconds. `jitter` is from 0 to 1: it spreads those who failed together.
    """
    row = CAUSES[cause]
    match row.then:
        case Then.COMPLETED:
            return Finished(Status.COMPLETED)
        case Then.INCOMPLETE:
            return Finished(Status.INCOMPLETE, reason=_INCOMPLETE_REASON[cause])
        case Then.CANCELLED:
            return Finished(Status.CANCELLED)
        case Then.GIVE_BACK:
            return GiveBack(cause)
        case Then.RETRY if failures + 1 < policy.max_attempts:
            return RetryAfter(_delay(failures, policy, jitter, retry_after), cause)
        case Then.RETRY | Then.FAILED:
            return Finished(Status.FAILED, code=cause, message=row.message)


def _delay(failures: int, policy: Policy, jitter: float, retry_after: float | None) -> int:
    if retry_after is not None:
        asked = min(max(retry_after, 0.0) * 1000, policy.max_retry_after_ms)
        # Never before the time that was asked for, and not all in the same instant after it.
        return round(asked + jitter * min(policy.first_delay_ms, asked * 0.1))
    step = min(policy.first_delay_ms << min(failures, 20), policy.max_delay_ms)
    return round(step * (0.5 + jitter / 2))
