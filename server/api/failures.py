"""Translates the causes of failed responses into the error codes that clients know.

The log stores the worker's cause of a failure (`worker.outcome`). Clients act on the standard's
codes, so both APIs send a standard code and add the cause as `holdline.error_code`. The standard's
codes for credentials and quota refer only to the caller's own credentials and quota. They are never
sent for an upstream's credentials or quota, which belong to the operator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from .problem import Problem


@dataclass(frozen=True, slots=True)
class Failure:
    """The error code and HTTP status for a cause; if `retry` is True, a retry may succeed."""

    code: str
    status: int
    retry: bool = True


FAILURES: Final = {
    "upstream_rejected": Failure("invalid_prompt", 400, retry=False),
    "upstream_input_too_long": Failure("context_length_exceeded", 400, retry=False),
    "unsupported_input": Failure("invalid_prompt", 400, retry=False),
    "upstream_model_not_found": Failure("model_not_found", 404, retry=False),
    "upstream_unauthorized": Failure("server_error", 503, retry=False),
    "upstream_over_time": Failure("server_error", 504, retry=False),
    "output_too_long": Failure("server_error", 502, retry=False),
    "upstream_busy": Failure("rate_limit_exceeded", 429),
    "upstream_key_unavailable": Failure("server_error", 503),
    "upstream_unavailable": Failure("server_error", 502),
    "upstream_timeout": Failure("server_error", 504),
    "upstream_stalled": Failure("server_error", 504),
    "upstream_truncated": Failure("server_error", 502),
    "upstream_malformed": Failure("server_error", 502),
    "upstream_error": Failure("server_error", 502),
    "upstream_stopped": Failure("server_error", 502, retry=False),
    "compaction_failed": Failure("server_error", 502),
    "tool_not_allowed": Failure("server_error", 502),
    "log_lost": Failure("server_error", 500),
    "context_lost": Failure("server_error", 500, retry=False),
    "worker_error": Failure("server_error", 500),
    "key_missing": Failure("server_error", 503),
    "request_too_new": Failure("server_error", 503),
    "worker_lost": Failure("server_error", 500),
    "queue_timeout": Failure("server_error", 503),
    "undecodable": Failure("server_error", 500),
}


def translated(response: dict[str, Any]) -> dict[str, Any]:
    """Returns the response object with the standard's error code if the response failed."""
    error = response.get("error")
    failure = FAILURES.get(error["code"]) if error else None
    if error is None or failure is None:
        return response
    ours = {**(response.get("holdline") or {}), "error_code": error["code"]}
    return {**response, "error": {**error, "code": failure.code}, "holdline": ours}


def problem_of(response: dict[str, Any]) -> Problem | None:
    """Returns the HTTP error for a translated response that failed, or None if it did not fail."""
    if response["status"] != "failed":
        return None
    error = response["error"]
    cause = (response.get("holdline") or {}).get("error_code", error["code"])
    failure = FAILURES.get(cause, Failure(error["code"], 502))
    return Problem(
        failure.status,
        cause,
        error["message"],
        should_retry=failure.retry,
        standard_code=error["code"],
    )
