"""What can be wrong with a request, in the standard's error shape.

Every refusal is a `Problem`: HTTP sends its status and body, a WebSocket the same as an
`error` event.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

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

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

AWAY_RETRY_SECONDS = 2
FULL_RETRY_SECONDS = 5
MAX_NAMES = 50
# Codes that clients of the standard act on. Our own, finer code stays beside it.
STANDARD_CODES: Final[Mapping[str, str]] = {
    # The caller's own credential, quota, rate and input.
    "authentication_required": "invalid_api_key",
    "invalid_token": "invalid_api_key",
    "token_budget_exceeded": "insufficient_quota",
    "money_budget_exceeded": "insufficient_quota",
    "queue_full": "rate_limit_exceeded",
    "too_many": "rate_limit_exceeded",
    "waiting_limit_exceeded": "rate_limit_exceeded",
    "subject_rate_limit_exceeded": "rate_limit_exceeded",
    "subject_running_limit_exceeded": "rate_limit_exceeded",
    "subject_budget_exceeded": "insufficient_quota",
    "input_tokens_exceeded": "context_length_exceeded",
    "context_too_large": "context_length_exceeded",
    # The operator's.
    "answer_restarted": "server_error",
    "busy": "server_error",
    "internal_error": "server_error",
    "not_replicated": "server_error",
    "response_damaged": "server_error",
    "response_key_missing": "server_error",
    "service_unavailable": "server_error",
    "storage_full": "server_error",
    "token_keys_unavailable": "server_error",
}


class Problem(Exception):
    """A refusal: HTTP status, the standard's `type` and `code`, one line that tells what to do."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: int | None = None,
        limit: tuple[str, float] | None = None,
        response_id: str | None = None,
        should_retry: bool = True,
        standard_code: str | None = None,
    ) -> None:
        """`code` is our own; `STANDARD_CODES` or `standard_code` translates it for the wire.

        `limit` is what was exceeded, as a word of a header, and how much it is.
        `response_id` names the response that the request has made.
        With `should_retry` False, official SDKs do not send the same request again by themselves.
        """
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.limit = limit
        self.response_id = response_id
        self.should_retry = should_retry
        self.standard_code = standard_code or STANDARD_CODES.get(code, code)

    @property
    def type(self) -> str:
        """The standard's error type for this status."""
        if self.status == 429:
            return "rate_limit_error"
        return "server_error" if self.status >= 500 else "invalid_request_error"

    @property
    def error(self) -> dict[str, Any]:
        """The standard's error object, with our own code where that says more."""
        error: dict[str, Any] = {
            "type": self.type,
            "code": self.standard_code,
            "message": self.message,
            "param": self.param,
        }
        if self.code != self.standard_code:
            error["holdline"] = {"error_code": self.code}
        if self.response_id is not None:
            error["response_id"] = self.response_id
        return error

    @property
    def headers(self) -> dict[str, str]:
        """The headers that go with it over HTTP."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.limit is not None:
            header, most = self.limit
            headers[header] = f"{most:.15g}"
        if self.response_id is not None:
            headers["X-Response-Id"] = self.response_id
        if not self.should_retry:
            headers["X-Should-Retry"] = "false"
        return headers

    def event(self, **about: str | None) -> dict[str, Any]:
        """The `error` event; `about` names the lane or the response, where there is one."""
        event: dict[str, Any] = {"type": "error", "status": self.status, "error": self.error}
        if self.headers:
            event["error"] = {**self.error, "headers": self.headers}
        return event | {name: value for name, value in about.items() if value is not None}


def invalid(param: str | None, message: str, code: str = "invalid_value") -> Problem:
    """A field that is wrong."""
    return Problem(400, code, message, param=param)


def name_list(names: Sequence[str]) -> str:
    """The names for a message, up to a limit."""
    return ", ".join([*names[:MAX_NAMES], *(["..."] if len(names) > MAX_NAMES else [])])


def restarting(response_id: str, why: str = "The answer goes on. ") -> Problem:
    """The server ends a request before its response has ended.

    The same request again would be a second call of the model, so the SDKs are told not to.
    """
    return Problem(
        503,
        "server_restarting",
        f"This server restarts. {why}Get it with GET /v1/responses/{response_id}.",
        response_id=response_id,
        should_retry=False,
    )


def unknown(response_id: str) -> Problem:
    """No such response, or not yours: the same words for both."""
    return Problem(
        404,
        "response_not_found",
        f"Response with id '{response_id[:64]}' not found. It may have expired.",
        param="response_id",
    )


def previous_not_found(response_id: str) -> Problem:
    """The refusal to continue from a response that is missing, or of which a turn is."""
    return Problem(
        400,
        "previous_response_not_found",
        f"Previous response with id '{response_id[:64]}' not found. Send the whole conversation.",
        param="previous_response_id",
    )


def from_error(error: Problem | HoldlineError) -> Problem:
    """The refusal for what went wrong, here or underneath. It never carries Redis's own words."""
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
            return _limited(error)
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


def _limited(error: Limited) -> Problem:
    """The refusal of what a tenant or one of its end users may not have."""
    limit, wait = f"{error.limit:g}", math.ceil(error.wait)
    match error.what:
        case "input_tokens":
            return Problem(
                400,
                "input_tokens_exceeded",
                # LiteLLM recognises it by "exceeds the maximum number of tokens allowed".
                f"The input exceeds the maximum number of tokens allowed, {limit}, as estimated. "
                "Shorten it.",
                param="input",
                limit=("X-RateLimit-Limit-Input-Tokens", error.limit),
            )
        case "waiting":
            return Problem(
                429,
                "waiting_limit_exceeded",
                f"{limit} of your prompts wait already. Wait for one to begin.",
                retry_after=wait,
                limit=("X-RateLimit-Limit-Waiting", error.limit),
            )
        case "waiting_bytes":
            return Problem(
                429,
                "waiting_limit_exceeded",
                "Your prompts that have not ended, with the turns before them, would take more "
                f"than {limit} bytes. Wait for one to end.",
                retry_after=wait,
            )
        case "tokens_per_day":
            return Problem(
                429,
                "token_budget_exceeded",
                f"This would exceed your {limit} tokens a day. Ask again tomorrow (UTC), or less.",
                retry_after=wait,
                limit=("X-RateLimit-Limit-Tokens", error.limit),
                should_retry=False,
            )
        case "money_per_day":
            return Problem(
                429,
                "money_budget_exceeded",
                f"This would exceed what your answers may cost a day, {limit}. "
                "Ask again tomorrow (UTC), or a cheaper model.",
                retry_after=wait,
                limit=("X-RateLimit-Limit-Money", error.limit),
                should_retry=False,
            )
        case "subject_running":
            return Problem(
                429,
                "subject_running_limit_exceeded",
                f"{limit} of your answers wait or run already. Wait for one to end.",
                retry_after=wait,
                limit=("X-RateLimit-Limit-Running", error.limit),
            )
        case "subject_requests_per_minute":
            return Problem(
                429,
                "subject_rate_limit_exceeded",
                f"Each user may send {limit} requests a minute. Wait as long as Retry-After says.",
                retry_after=max(wait, 1),
                limit=("X-RateLimit-Limit-Requests", error.limit),
            )
        case "subject_tokens_per_day" | "subject_money_per_day":
            unit = "Tokens" if error.what == "subject_tokens_per_day" else "Money"
            return Problem(
                429,
                "subject_budget_exceeded",
                f"This would exceed what each user may use a day ({unit.lower()}: {limit}). "
                "Ask again tomorrow (UTC), or for less.",
                retry_after=wait,
                limit=(f"X-RateLimit-Limit-{unit}", error.limit),
                should_retry=False,
            )
        case _:
            return Problem(
                429,
                "rate_limit_exceeded",
                f"At most {limit} requests a minute. Wait as long as Retry-After says.",
                retry_after=max(wait, 1),
                limit=("X-RateLimit-Limit-Requests", error.limit),
            )
