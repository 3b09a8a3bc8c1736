"""Builds response objects, and the events that contain a response object.

The last event of a log has the SHA-256 checksum of the answer's text. Clients compare it with the
checksum of the text that they received. The module `items` builds the events of output items. All
events are built for the log, so they have no `sequence_number`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from jobs.record import Status
from jobs.tools import shown_tools

if TYPE_CHECKING:
    from collections.abc import Collection

    from jobs.record import Job

    from .codec import Event
    from .items import Item, Place

_TERMINAL: Final = {
    Status.COMPLETED: "response.completed",
    Status.INCOMPLETE: "response.incomplete",
    Status.FAILED: "response.failed",
    # The Responses API has the status `cancelled` but no event for it. Its clients stop reading at
    # `response.incomplete`, so that event also ends a cancelled response.
    Status.CANCELLED: "response.incomplete",
}
TERMINAL_TYPES: Final = frozenset(_TERMINAL.values())
RESTARTED: Final = "holdline:restarted"
CONTINUED: Final = "holdline:continued"
NO_USAGE: Final = {
    "input_tokens": 0,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 0,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 0,
}


# Parameters that a response repeats only if the request has them.
IF_GIVEN: Final = (
    "access_programs",
    "conversation",
    "image",
    "prompt",
    "prompt_cache_options",
    "prompt_cache_retention",
)


def snapshot(
    job: Job,
    status: str,
    *,
    output: list[Item] | None = None,
    usage: dict[str, Any] | None = None,
    error: dict[str, Any] | None = None,
    incomplete: str | None = None,
    completed_at: int | None = None,
) -> dict[str, Any]:
    """Returns a response object with all fields that the Responses API requires."""
    params = job.params
    return {
        "id": job.id,
        "object": "response",
        "created_at": job.created_at,
        "completed_at": completed_at,
        "status": status,
        "error": error,
        "incomplete_details": None if incomplete is None else {"reason": incomplete},
        "model": params["model"],
        "previous_response_id": params.get("previous_response_id"),
        "instructions": params.get("instructions"),
        "output": [] if output is None else output,
        "tools": shown_tools(params.get("tools") or []),
        "tool_choice": params.get("tool_choice") or "auto",
        "parallel_tool_calls": _or(params.get("parallel_tool_calls"), True),
        "text": params.get("text") or {"format": {"type": "text"}},
        "reasoning": params.get("reasoning"),
        "temperature": _or(params.get("temperature"), 1.0),
        "top_p": _or(params.get("top_p"), 1.0),
        "presence_penalty": _or(params.get("presence_penalty"), 0.0),
        "frequency_penalty": _or(params.get("frequency_penalty"), 0.0),
        "top_logprobs": _or(params.get("top_logprobs"), 0),
        "max_output_tokens": params.get("max_output_tokens"),
        "max_tool_calls": params.get("max_tool_calls"),
        "truncation": params.get("truncation") or "disabled",
        "store": _or(params.get("store"), True),
        "background": _or(params.get("background"), False),
        "service_tier": params.get("service_tier") or "default",
        "metadata": params.get("metadata") or {},
        "user": params.get("user"),
        "safety_identifier": params.get("safety_identifier"),
        "prompt_cache_key": params.get("prompt_cache_key"),
        "usage": usage,
        **{name: params[name] for name in IF_GIVEN if name in params},
    }


def lifecycle(job: Job, kind: str, status: str) -> Event:
    """Returns a `response.created`, `response.queued` or `response.in_progress` event."""
    return {"type": kind, "response": snapshot(job, status)}


def submitted(job: Job) -> list[Event]:
    """Returns `response.created` and `response.queued`, the first two events of a queued job."""
    return opening_events(job)[:2]


def begins(job: Job) -> Event:
    """Returns `response.in_progress`, the event that says that a worker has started the job."""
    return lifecycle(job, "response.in_progress", "in_progress")


def opening_events(job: Job) -> list[Event]:
    """Returns the events of `submitted` and `begins`, which differ only in the status."""
    response = snapshot(job, "queued")
    return [
        {"type": "response.created", "response": response},
        {"type": "response.queued", "response": response},
        {"type": "response.in_progress", "response": {**response, "status": "in_progress"}},
    ]


def prepared(job: Job) -> list[Event]:
    """Returns all events of a request that asks for no generation and is completed at once."""
    return [
        lifecycle(job, "response.created", "in_progress"),
        begins(job),
        terminal(
            job,
            Status.COMPLETED,
            output=[],
            attempts=0,
            timing={},
            completed_at=job.created_at,
            usage=NO_USAGE,
        ),
    ]


def restarted(job: Job, attempt: int, reason: str) -> Event:
    """Returns the event that announces another attempt and voids the output of earlier attempts."""
    return {"type": RESTARTED, "response_id": job.id, "attempt": attempt, "reason": reason}


def continued(job: Job, attempt: int, reason: str, place: Place, at: int) -> Event:
    """Returns the event that announces another attempt, which continues the text of the last one.

    `place` is the place of the text, and `at` its length so far in Unicode code points.
    """
    told = {"response_id": job.id, "attempt": attempt, "reason": reason}
    return {"type": CONTINUED, **told, **place.fields, "at": at}


def terminal(
    job: Job,
    status: Status,
    *,
    output: list[Item],
    attempts: int,
    timing: dict[str, int],
    completed_at: int,
    usage: dict[str, Any] | None = None,
    error: dict[str, Any] | None = None,
    incomplete: str | None = None,
    model: str | None = None,
    left_out: dict[str, list[str]] | None = None,
    reported: dict[str, Any] | None = None,
    steered: dict[str, Any] | None = None,
    called: Collection[str] = (),
    continuations: int = 0,
) -> Event:
    """Returns the last event of a log, which has the checksum of the text and the timing.

    `timing` contains durations in milliseconds. `completed_at` is used only if the response is
    completed. `model` is the name of the model that answered, or None. `left_out` contains the
    types of the tools and items that this model did not get. `reported` contains members of the
    response object that the model's provider has determined. `steered` contains the outcome of the
    response's steers. `called` contains the call ids of all attempts: those that are not in the
    output belong to void calls. `continuations` is the number of attempts that continued the text.
    """
    response = snapshot(
        job,
        status,
        output=output,
        usage=usage,
        error=error,
        incomplete=incomplete,
        completed_at=completed_at if status is Status.COMPLETED else None,
    )
    response |= reported or {}
    text = output_text(output).encode()
    response["holdline"] = {
        "attempts": attempts,
        "sha256": hashlib.sha256(text).hexdigest(),
        "bytes": len(text),
        "timing": timing,
    }
    if model is not None:
        response["holdline"]["model"] = model
    if continuations:
        response["holdline"]["continuations"] = continuations
    response["holdline"] |= {**(left_out or {}), **(steered or {})}
    if void := set(called) - {item.get("call_id") for item in output}:
        response["holdline"]["void_calls"] = sorted(void)
    return {"type": _TERMINAL[status], "response": response}


def output_text(output: list[Item]) -> str:
    """Returns the concatenated text of all messages of a response.

    The official SDKs compute their property `output_text` in the same way.
    """
    return "".join(
        part["text"]
        for item in output
        if item.get("type") == "message"
        for part in item.get("content", [])
        if part.get("type") == "output_text"
    )


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
