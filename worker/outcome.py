"""Decides whether a model call ends its response or is followed by another attempt.

This table is the whole policy:

    result of the call                          last attempt          earlier attempt
    model finished its answer                   completed             completed
    token limit, content filter, steer          incomplete            incomplete
    cancelled                                   cancelled             cancelled
    request refused, time limit reached,
      input or output too long,
      unknown stop reason                       failed                failed
    busy                                        failed                retry after the provider's
                                                                        Retry-After, or a backoff
    unavailable, stalled, truncated,
      malformed, ...                            failed                retry after a backoff
    worker lacks file descriptors or memory     back to the queue     back to the queue

A response is completed only if the provider sent a stop reason for a complete answer.

The table applies to one job. If a provider replies with status 429, `worker.execute` may also pause
the model for all workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from jobs.record import Status


class Then(Enum):
    """The consequence of a model call that ended for a certain cause."""

    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    CANCELLED = "cancelled"
    FAILED = "failed"
    RETRY = "retry"
    GIVE_BACK = "give back"


@dataclass(frozen=True, slots=True)
class Cause:
    """One row of the policy table: the consequence of a cause, and its error message.

    A response that fails for this cause has the error message `message`, which tells the client how
    to react. The message never contains text from the provider.
    """

    then: Then
    message: str = ""


_TRY_LATER = "Try again later."
_TELL_OPERATOR = "If the error persists, contact the operator."
_KEPT = "The text generated so far is kept."

CAUSES: Final[dict[str, Cause]] = {
    # The causes below are the provider's stop reasons and cancellation by the client.
    "stop": Cause(Then.COMPLETED),
    "length": Cause(Then.INCOMPLETE),
    "content_filter": Cause(Then.INCOMPLETE),
    "cancelled": Cause(Then.CANCELLED),
    # The worker ended the call, because the client has steered the response.
    "steered": Cause(Then.INCOMPLETE),
    # The following failures are permanent: another attempt would fail in the same way.
    "upstream_rejected": Cause(
        Then.FAILED,
        "The model's endpoint rejected the request. "
        "Check the request's parameters and the length of its input.",
    ),
    "upstream_input_too_long": Cause(
        Then.FAILED,
        # The client library LiteLLM recognizes this failure by the words "is longer than the
        # model's context length", so the message must contain them.
        "The input is longer than the model's context length. "
        "Shorten it, or set 'truncation' to 'auto'.",
    ),
    "upstream_unauthorized": Cause(
        Then.FAILED,
        "The model's endpoint rejected this server's API key or account. "
        "The operator must check the key, the quota and the billing.",
    ),
    "upstream_model_not_found": Cause(
        Then.FAILED,
        "The model's endpoint does not know this model. Use another model.",
    ),
    "upstream_over_time": Cause(
        Then.FAILED,
        f"The model exceeded its time limit. {_KEPT} Ask for a shorter answer.",
    ),
    "output_too_long": Cause(
        Then.FAILED,
        f"The output exceeded its size limit. {_KEPT} Ask for a shorter answer.",
    ),
    # After an unknown stop reason the answer may be incomplete, so the response fails. A retry
    # would be billed, and would probably end with the same stop reason.
    "upstream_stopped": Cause(
        Then.FAILED,
        f"The model stopped for an unknown reason. {_KEPT} "
        "The operator must check the stop reasons of the model's endpoint.",
    ),
    "unsupported_input": Cause(
        Then.FAILED,
        "The input contains an item or content of an unsupported type. Send text.",
    ),
    "context_lost": Cause(
        Then.FAILED,
        "Redis lost an earlier turn of this conversation. Send the whole conversation.",
    ),
    # The following failures are temporary: another attempt may succeed.
    "upstream_busy": Cause(Then.RETRY, f"The model's endpoint is busy. {_TRY_LATER}"),
    "upstream_key_unavailable": Cause(
        Then.RETRY,
        "This server currently has no API key for the model's endpoint. "
        f"{_TRY_LATER} {_TELL_OPERATOR}",
    ),
    "upstream_unavailable": Cause(
        Then.RETRY, f"The model's endpoint could not be reached, or failed. {_TRY_LATER}"
    ),
    "upstream_timeout": Cause(
        Then.RETRY, f"The model did not start to answer in time. {_TRY_LATER}"
    ),
    "upstream_stalled": Cause(
        Then.RETRY,
        f"The model stopped sending text before the end of its answer. {_KEPT} {_TRY_LATER}",
    ),
    "upstream_truncated": Cause(
        Then.RETRY,
        f"The model's stream ended before its answer was complete. {_KEPT} {_TRY_LATER}",
    ),
    "upstream_malformed": Cause(
        Then.RETRY,
        "The model's endpoint sent an invalid response. "
        f"{_TRY_LATER} If the error persists, the operator must check the endpoint's URL.",
    ),
    "upstream_error": Cause(
        Then.RETRY, f"The model's endpoint reported an error during its answer. {_TRY_LATER}"
    ),
    "compaction_failed": Cause(
        Then.RETRY,
        f"The model wrote no complete summary of the conversation. {_TRY_LATER}",
    ),
    "tool_not_allowed": Cause(
        Then.RETRY,
        "The model called a function that the request does not allow. "
        "Allow the function, or describe more clearly when to call each one.",
    ),
    "log_lost": Cause(Then.RETRY, f"Redis lost a part of this response. {_TRY_LATER}"),
    "worker_error": Cause(
        Then.RETRY, f"The worker encountered an internal error. Try again. {_TELL_OPERATOR}"
    ),
    "key_missing": Cause(
        Then.RETRY,
        "The stored request is encrypted with a key that the worker does not have. "
        f"{_TRY_LATER} {_TELL_OPERATOR}",
    ),
    "request_too_new": Cause(
        Then.RETRY,
        "A newer version of the server has stored the request, and the worker cannot read it. "
        f"{_TRY_LATER} {_TELL_OPERATOR}",
    ),
    # The worker lacks file descriptors or memory. The provider did not fail, and another worker may
    # be able to run the job.
    "worker_exhausted": Cause(Then.GIVE_BACK),
    # With the following causes, a worker ends a response without a model call.
    "worker_lost": Cause(
        Then.FAILED, f"The worker was lost before the end of the answer. {_KEPT} {_TRY_LATER}"
    ),
    "queue_timeout": Cause(
        Then.FAILED, f"The prompt reached its maximum time in the queue. {_TRY_LATER}"
    ),
    "undecodable": Cause(
        Then.FAILED,
        f"The stored request could not be decoded. Send it again. {_TELL_OPERATOR}",
    ),
}

# A response that ends with function calls is complete: the client then sends the results of the
# calls.
_REASONS: Final = {
    "stop": "stop",
    "tool_calls": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "error": "upstream_error",
    "busy": "upstream_busy",
}
_INCOMPLETE_REASON: Final = {
    "length": "max_output_tokens",
    "content_filter": "content_filter",
    "steered": "steered",
}


def cause_of(finish_reason: str) -> str:
    """Returns the key of `CAUSES` for a stop reason.

    `upstream.finish_reasons` has normalized the stop reason.
    """
    return _REASONS.get(finish_reason, "upstream_stopped")


@dataclass(frozen=True, slots=True)
class Finished:
    """The decision to end the response with `status`.

    `code` and `message` are set if the response failed. `reason` is set if the response is
    incomplete.
    """

    status: Status
    code: str | None = None
    message: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """The decision to retry the job after `delay_ms`. The client receives `reason`."""

    delay_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class GiveBack:
    """The decision to return the job to the front of the queue. The client receives `reason`."""

    reason: str


Decision = Finished | RetryAfter | GiveBack


@dataclass(frozen=True, slots=True)
class Policy:
    """The limits on attempts and on the delays between them. Times are in ms."""

    max_attempts: int = 3
    first_delay_ms: int = 500
    max_delay_ms: int = 30_000
    # A longer delay that a provider asks for is shortened to this limit. Some providers ask for
    # hours, but an early failure is more useful to the client.
    max_retry_after_ms: int = 120_000


def decide(
    cause: str, *, failures: int, policy: Policy, jitter: float, retry_after: float | None = None
) -> Decision:
    """Decides whether the response ends or the job gets another attempt.

    `failures` is the number of earlier attempts that failed. `retry_after` is the delay in seconds
    that the provider asked for. `jitter` is a random number from 0 to 1, which spreads the retries
    of jobs that failed at the same time.
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
        # A retry never starts before the time that the provider asked for. The jitter keeps jobs
        # from retrying all at the same moment.
        return round(asked + jitter * min(policy.first_delay_ms, asked * 0.1))
    step = min(policy.first_delay_ms << min(failures, 20), policy.max_delay_ms)
    return round(step * (0.5 + jitter / 2))
