"""Translates the errors of `jobs` into refusals."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from jobs.errors import (
    EncryptionKeyMissing,
    HoldlineError,
    IdempotencyKeyReused,
    Limited,
    NotReplicated,
    QueueFull,
    RedisFull,
    RedisTrouble,
    TurnMissing,
    UnknownResponse,
)

from .problem import Problem

AWAY_RETRY_SECONDS: Final = 2
FULL_RETRY_SECONDS: Final = 5


class Refusal(NamedTuple):
    """The code, the name of the limit's header, and the message with `{}` for the limit."""

    code: str
    header: str
    message: str
    should_retry: bool = True


# Keyed by the fields of `tenants.FIELDS` that can refuse a prompt. `input_tokens` is not among
# them: waiting does not help against it, so `limited` answers it with status 400.
REFUSALS: Final = {
    "waiting": Refusal(
        "waiting_limit_exceeded",
        "X-RateLimit-Limit-Waiting",
        "{} of your prompts wait already. Wait for one to begin.",
    ),
    "waiting_bytes": Refusal(
        "waiting_limit_exceeded",
        "X-RateLimit-Limit-Waiting-Bytes",
        "Your prompts that have not ended, with the turns before them, would take more than {} "
        "bytes. Wait for one to end.",
    ),
    "requests_per_minute": Refusal(
        "rate_limit_exceeded",
        "X-RateLimit-Limit-Requests",
        "At most {} requests a minute. Wait as long as Retry-After says.",
    ),
    "tokens_per_day": Refusal(
        "token_budget_exceeded",
        "X-RateLimit-Limit-Tokens",
        "This would exceed your {} tokens a day. Ask again tomorrow (UTC), or less.",
        should_retry=False,
    ),
    "money_per_day": Refusal(
        "money_budget_exceeded",
        "X-RateLimit-Limit-Money",
        "This would exceed what your answers may cost a day, {}. Ask again tomorrow (UTC), or a "
        "cheaper model.",
        should_retry=False,
    ),
    "subject_running": Refusal(
        "subject_running_limit_exceeded",
        "X-RateLimit-Limit-Running",
        "{} of your answers wait or run already. Wait for one to end.",
    ),
    "subject_requests_per_minute": Refusal(
        "subject_rate_limit_exceeded",
        "X-RateLimit-Limit-Requests",
        "Each user may send {} requests a minute. Wait as long as Retry-After says.",
    ),
    "subject_tokens_per_day": Refusal(
        "subject_budget_exceeded",
        "X-RateLimit-Limit-Tokens",
        "This would exceed the {} tokens a day of each user. Ask again tomorrow (UTC), or less.",
        should_retry=False,
    ),
    "subject_money_per_day": Refusal(
        "subject_budget_exceeded",
        "X-RateLimit-Limit-Money",
        "This would exceed what the answers of each user may cost a day, {}. Ask again tomorrow "
        "(UTC), or a cheaper model.",
        should_retry=False,
    ),
}


def unknown(response_id: str) -> Problem:
    """Returns the refusal for a response that does not exist, or that the caller may not see.

    The message is the same in both cases.
    """
    return Problem(
        404,
        "response_not_found",
        f"Response with id '{response_id[:64]}' not found. It may have expired.",
        param="response_id",
    )


def previous_not_found(response_id: str) -> Problem:
    """Returns the refusal to continue from a response if it, or one of its turns, is missing."""
    return Problem(
        400,
        "previous_response_not_found",
        f"Previous response with id '{response_id[:64]}' not found. Send the whole conversation.",
        param="previous_response_id",
    )


def from_error(error: Problem | HoldlineError) -> Problem:
    """Returns the refusal for an error of the server or of `jobs`.

    It never repeats a message of Redis.
    """
    match error:
        case Problem():
            return error
        case UnknownResponse(response_id=response_id):
            return unknown(response_id)
        case TurnMissing():
            return previous_not_found(error.response_id)
        case IdempotencyKeyReused():
            return Problem(
                422,
                "idempotency_key_reused",
                "This idempotency key was used with another request body. Use a new key.",
                param="idempotency_key",
            )
        case QueueFull(limit=limit, counted=counted):
            return Problem(
                429,
                "queue_full",
                f"The queue is full: its limit is {limit} {counted}. Try again later.",
                retry_after=FULL_RETRY_SECONDS,
                limit=("X-RateLimit-Limit-Queue", limit),
            )
        case Limited():
            return limited(error)
        case NotReplicated():
            return Problem(
                503,
                "not_replicated",
                "The prompt is queued, but too few replicas of the storage have it. "
                "Send it again with the same idempotency key.",
                retry_after=AWAY_RETRY_SECONDS,
            )
        case RedisFull():
            return Problem(
                503,
                "storage_full",
                "The service's storage is full. Try again later.",
                retry_after=FULL_RETRY_SECONDS,
            )
        case EncryptionKeyMissing():
            return Problem(
                503,
                "response_key_missing",
                "This server lacks the key with which the response is encrypted. "
                "Try again later; if it lasts, tell the operator.",
                retry_after=FULL_RETRY_SECONDS,
            )
        case RedisTrouble():
            return Problem(
                503,
                "service_unavailable",
                "The service cannot reach its storage. Try again in a moment.",
                retry_after=AWAY_RETRY_SECONDS,
            )
        case _:
            return Problem(500, "internal_error", "Something went wrong here. Try again.")


def limited(error: Limited) -> Problem:
    """Returns the refusal of a prompt that exceeds a limit of its tenant or end user."""
    limit = f"{error.limit:g}"
    if error.what == "input_tokens":
        return Problem(
            400,
            "input_tokens_exceeded",
            # LiteLLM recognises it by "exceeds the maximum number of tokens allowed".
            f"The input exceeds the maximum number of tokens allowed, {limit}, as estimated. "
            "Shorten it.",
            param="input",
            limit=("X-RateLimit-Limit-Input-Tokens", error.limit),
        )
    refusal = REFUSALS[error.what]
    return Problem(
        429,
        refusal.code,
        refusal.message.format(limit),
        retry_after=max(math.ceil(error.wait), 1),
        limit=(refusal.header, error.limit),
        should_retry=refusal.should_retry,
    )
