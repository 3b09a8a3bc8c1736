"""Describes an attempt: for its log line, its span, the last event and the record of the worker."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from jobs.worker_registry import MAX_TEXT, RunningRecord
from runtime import tracing

from .outcome import CAUSES, RetryAfter

if TYPE_CHECKING:
    from jobs.record import Job
    from jobs.replies import Grant

    from .model_call import ModelCall
    from .outcome import Finished


def running_record(
    grant: Grant, call: ModelCall, job: Job | None, claimed: float, now: float
) -> RunningRecord:
    """Returns what the record of the worker says about a job that it runs.

    `claimed` and `now` are times as `time.monotonic()` returns them.
    """
    model = call.model or grant.model or (job.params.get("model") if job else "")
    first = call.first_token
    return RunningRecord(
        grant.response_id,
        (model or "")[:MAX_TEXT],
        grant.attempt,
        round(1000 * (now - claimed)),
        None if first is None else round(1000 * (now - first)),
    )


def timing_of(grant: Grant, call: ModelCall, claimed: float) -> dict[str, int]:
    """Returns the `timing` object of the response's last event, with times in ms."""
    since_claim = round(1000 * (time.monotonic() - claimed))
    return {
        "queued_ms": grant.waited_ms,
        **call.timing(),
        "total_ms": grant.waited_ms + since_claim,
    }


def log_attempt(
    log: Any,
    decision: Finished | RetryAfter,
    call: ModelCall,
    grant: Grant,
    claimed: float,
    size: int,
) -> None:
    """Logs the end of an attempt whose output has `size` bytes, and adds the result to its span."""
    failed = bool(CAUSES[call.cause].message)
    log.log(
        logging.WARNING if failed else logging.INFO,
        "model call attempt ended",
        cause=call.cause,
        error=None if call.detail == "finish_reason" else call.detail or None,
        bytes=size,
        retry_ms=decision.delay_ms if isinstance(decision, RetryAfter) else None,
        **timing_of(grant, call, claimed),
    )
    tracing.current().set({"holdline.attempt": grant.attempt, "holdline.cause": call.cause})
    if failed:
        tracing.current().fail(call.cause)
