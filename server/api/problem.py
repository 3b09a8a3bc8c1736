"""The errors with which requests are refused, in the standard's error format.

Every refusal is a `Problem`. HTTP routes send a problem as a status and a body; sockets send it as
an `error` event with the same content.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_NAMES = 50
# Maps our error codes to the standard's codes, which clients act on. An error carries both codes.
STANDARD_CODES: Final[Mapping[str, str]] = {
    # Errors of the caller: credential, quota, rate and input.
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
    "subject_storage_exceeded": "insufficient_quota",
    "conversation_busy": "rate_limit_exceeded",
    "input_tokens_exceeded": "context_length_exceeded",
    "context_too_large": "context_length_exceeded",
    # Errors of the service.
    "answer_restarted": "server_error",
    "busy": "server_error",
    "internal_error": "server_error",
    "not_replicated": "server_error",
    "response_damaged": "server_error",
    "response_key_missing": "server_error",
    "response_too_new": "server_error",
    "service_unavailable": "server_error",
    "storage_full": "server_error",
    "token_keys_unavailable": "server_error",
}


class Problem(Exception):
    """A refused request: an HTTP status, the standard's `type` and `code`, and a message."""

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
        """`code` is our error code; `STANDARD_CODES` or `standard_code` gives the standard's code.

        `limit` is the exceeded limit: the name of its header, and its value. `response_id` names
        the response that the request, or an earlier one with its key, created. If `should_retry` is
        False, official SDKs do not retry the request automatically.
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
        """The standard's error object, with our error code if the two codes differ."""
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
        """The HTTP headers of the error response."""
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
        """Returns the `error` event.

        `about` names the lane, the response or the conversation that the error concerns. If
        `conversation` is None, the error concerns the list of all conversations; other values of
        None are left out.
        """
        event: dict[str, Any] = {"type": "error", "status": self.status, "error": self.error}
        if self.headers:
            event["error"] = {**self.error, "headers": self.headers}
        named = {n: v for n, v in about.items() if v is not None or n == "conversation"}
        return event | named


def invalid(param: str | None, message: str, code: str = "invalid_value") -> Problem:
    """Returns the error for a request with an invalid field."""
    return Problem(400, code, message, param=param)


def name_list(names: Sequence[str]) -> str:
    """Returns the names as text for an error message, shortened to `MAX_NAMES` names."""
    return ", ".join([*names[:MAX_NAMES], *(["..."] if len(names) > MAX_NAMES else [])])


def restarting(response_id: str, why: str = "The response continues. ") -> Problem:
    """Returns the error for a request that a server restart ends before its response has ended.

    Retrying the request would call the model a second time, so SDKs are told not to retry.
    """
    return Problem(
        503,
        "server_restarting",
        f"The server is restarting. {why}Retrieve it with GET /v1/responses/{response_id}.",
        response_id=response_id,
        should_retry=False,
    )
