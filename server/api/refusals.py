"""Translates the errors that `jobs` raises into refusals of requests."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from jobs.errors import (
    ConversationBusy,
    ConversationFull,
    EncryptionKeyMissing,
    IdempotencyKeyReused,
    Limited,
    NewerFormat,
    NotReplicated,
    QueueFull,
    RedisFull,
    RedisTrouble,
    SteersTaken,
    SubscriptionsFull,
    TurnMissing,
    UnknownConversation,
    UnknownResponse,
)

from .problem import Problem

AWAY_RETRY_SECONDS: Final = 2
FULL_RETRY_SECONDS: Final = 5


class Refusal(NamedTuple):
    """The error code, header name and message of a limit; `{}` stands for the limit's value."""

    code: str
    header: str
    message: str
    should_retry: bool = True


# The refusal for each limit in `tenants.FIELDS` that can cause a prompt to be refused. The limit
# `input_tokens` is not included: waiting does not help in this case, so `limited` returns status
# 400.
REFUSALS: Final = {
    "waiting": Refusal(
        "waiting_limit_exceeded",
        "X-RateLimit-Limit-Waiting",
        "You already have {} waiting prompts, which is the limit. Wait until one starts.",
    ),
    "waiting_bytes": Refusal(
        "waiting_limit_exceeded",
        "X-RateLimit-Limit-Waiting-Bytes",
        "Your unfinished prompts and their earlier turns would exceed the limit of {} bytes. "
        "Wait until one finishes.",
    ),
    "requests_per_minute": Refusal(
        "rate_limit_exceeded",
        "X-RateLimit-Limit-Requests",
        "You have reached your limit of {} requests per minute. "
        "Try again after the delay in Retry-After.",
    ),
    "tokens_per_day": Refusal(
        "token_budget_exceeded",
        "X-RateLimit-Limit-Tokens",
        "This request would exceed your limit of {} tokens per day. "
        "Try again tomorrow (UTC), or send a smaller request.",
        should_retry=False,
    ),
    "money_per_day": Refusal(
        "money_budget_exceeded",
        "X-RateLimit-Limit-Money",
        "This request would exceed your cost limit of {} per day. "
        "Try again tomorrow (UTC), or use a cheaper model.",
        should_retry=False,
    ),
    "subject_running": Refusal(
        "subject_running_limit_exceeded",
        "X-RateLimit-Limit-Running",
        "You already have {} waiting or running responses, which is the limit. "
        "Wait until one finishes.",
    ),
    "subject_requests_per_minute": Refusal(
        "subject_rate_limit_exceeded",
        "X-RateLimit-Limit-Requests",
        "You have reached the limit of {} requests per minute for each user. "
        "Try again after the delay in Retry-After.",
    ),
    "subject_tokens_per_day": Refusal(
        "subject_budget_exceeded",
        "X-RateLimit-Limit-Tokens",
        "This request would exceed the limit of {} tokens per day for each user. "
        "Try again tomorrow (UTC), or send a smaller request.",
        should_retry=False,
    ),
    "subject_money_per_day": Refusal(
        "subject_budget_exceeded",
        "X-RateLimit-Limit-Money",
        "This request would exceed the cost limit of {} per day for each user. "
        "Try again tomorrow (UTC), or use a cheaper model.",
        should_retry=False,
    ),
}


def unknown(response_id: str) -> Problem:
    """Returns the error for a response that does not exist, or that the caller may not see.

    The error message is the same in both cases.
    """
    return Problem(
        404,
        "response_not_found",
        f"Response with id '{response_id[:64]}' not found. It may have expired.",
        param="response_id",
    )


def unknown_item(item_id: str, param: str) -> Problem:
    """Returns the error for an item that does not exist, or that the caller may not see."""
    return Problem(
        404,
        "item_not_found",
        f"Item with id '{item_id[:64]}' not found. Send the item itself instead."
        if param == "input"
        else f"Item with id '{item_id[:64]}' not found.",
        param=param,
    )


def conversation_full(error: ConversationFull) -> Problem:
    """Returns the error for items that do not fit into a conversation or an end user's storage."""
    if error.what == "account_bytes":
        return Problem(
            429,
            "subject_storage_exceeded",
            f"Your conversations would exceed the limit of {error.limit} bytes for each user. "
            "Delete a conversation or some items.",
            limit=("X-RateLimit-Limit-Conversation-Bytes", error.limit),
            should_retry=False,
        )
    return Problem(
        400,
        "conversation_full",
        f"The conversation would exceed the limit of {error.limit} {error.what}. "
        "Start a new conversation with the items that are still needed.",
        param="conversation",
    )


def subject_required() -> Problem:
    """Returns the error for a caller that has no list of conversations of its own."""
    return Problem(
        403,
        "subject_required",
        "Only an end user has a list of conversations. Use a token with a subject ('sub'), or name "
        "a conversation.",
        param="conversation",
    )


def previous_not_found(response_id: str) -> Problem:
    """Returns the error for a previous response that is missing or lacks an earlier turn."""
    return Problem(
        400,
        "previous_response_not_found",
        f"Previous response with id '{response_id[:64]}' not found. Send the whole conversation.",
        param="previous_response_id",
    )


def beyond_end(after: int, length: int) -> Problem:
    """Returns the error for a cursor after the last event of a log of this length."""
    return Problem(
        400,
        "starting_after_beyond_end",
        f"'starting_after' is {after}, but the response has only {length} events. "
        "Follow it from the beginning.",
        param="starting_after",
    )


def rolled_back() -> Problem:
    """Returns the error for a client that has events which Redis has lost."""
    return Problem(
        410,
        "response_rolled_back",
        "The server's storage lost events of this response that you have already received. "
        "Discard them, and follow the response from the beginning.",
    )


def from_error(error: Exception) -> Problem:
    """Returns the refusal that corresponds to an exception of the server or of `jobs`.

    The refusal never repeats an error message of Redis.
    """
    match error:
        case Problem():
            return error
        case UnknownResponse(response_id=response_id):
            return unknown(response_id)
        case UnknownConversation(conversation_id=conversation_id):
            return Problem(
                404,
                "conversation_not_found",
                f"Conversation with id '{conversation_id[:64]}' not found. It may have expired.",
                param="conversation",
            )
        case ConversationBusy(limit=limit):
            return Problem(
                429,
                "conversation_busy",
                f"The conversation already has {limit} unfinished responses, which is the limit. "
                "Wait until one finishes.",
                param="conversation",
                retry_after=1,
            )
        case ConversationFull():
            return conversation_full(error)
        case SubscriptionsFull(limit=limit):
            return Problem(
                429,
                "push_subscriptions_full",
                f"You have {limit} push subscriptions, which is the limit. Delete one first.",
                should_retry=False,
            )
        case TurnMissing():
            return previous_not_found(error.response_id)
        case SteersTaken():
            return Problem(
                503,
                "busy",
                "Another request has just continued the previous response with its steers. "
                "Try again.",
                retry_after=1,
            )
        case IdempotencyKeyReused():
            return Problem(
                422,
                "idempotency_key_reused",
                "This idempotency key was used with a different request body. Use a new key.",
                param="idempotency_key",
                response_id=error.response_id,
            )
        case QueueFull(limit=limit, counted=counted):
            return Problem(
                429,
                "queue_full",
                f"The queue has reached its limit of {limit} {counted}. Try again later.",
                retry_after=FULL_RETRY_SECONDS,
                limit=("X-RateLimit-Limit-Queue", limit),
            )
        case Limited():
            return limited(error)
        case NotReplicated():
            return Problem(
                503,
                "not_replicated",
                "The prompt is queued, but too few storage replicas have acknowledged it. "
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
                "This server does not have the key that decrypts the response. "
                "Try again later. If the error persists, contact the operator.",
                retry_after=FULL_RETRY_SECONDS,
            )
        case NewerFormat():
            return Problem(
                503,
                "response_too_new",
                "A newer version of the server has stored this data, which this server cannot "
                "read. Try again, on another server if possible.",
                retry_after=AWAY_RETRY_SECONDS,
            )
        case RedisTrouble():
            return Problem(
                503,
                "service_unavailable",
                "The service cannot reach its storage. Try again in a moment.",
                retry_after=AWAY_RETRY_SECONDS,
            )
        case _:
            return Problem(
                500, "internal_error", "The server encountered an internal error. Try again."
            )


def limited(error: Limited) -> Problem:
    """Returns the error for a prompt that exceeds a limit of its tenant or end user."""
    limit = f"{error.limit:g}"
    if error.what == "input_tokens":
        return Problem(
            400,
            "input_tokens_exceeded",
            # LiteLLM recognises this error by "exceeds the maximum number of tokens allowed".
            "The estimated input exceeds the maximum number of tokens allowed, which is "
            f"{limit}. Shorten the input.",
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
