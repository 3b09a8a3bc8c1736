"""Builds the timeline of one response, from its submission to its end and its webhook.

The scripts record the steps of a job with their times in the field `steps` of its record. The log
says whether an attempt restarted or continued the answer, and its last event has the times of the
last model call. This module does no I/O and looks at no prompt, no text and no arguments.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from .log.events import CONTINUED, RESTARTED, TERMINAL_TYPES
from .names import model_of, tenant_of, tier_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .log.codec import Event


class StepKind(StrEnum):
    """The kinds of steps in a timeline."""

    SUBMITTED = "submitted"
    QUEUED = "queued"
    CLAIMED = "claimed"
    CALLED_AGAIN = "called_again"
    RESTARTED = "restarted"
    CONTINUED = "continued"
    FIRST_TOKEN = "first_token"  # noqa: S105 - not a password
    HTTP_ERROR = "http_error"
    DELAYED = "delayed"
    GIVEN_BACK = "given_back"
    WORKER_LOST = "worker_lost"
    CANCEL_ASKED = "cancel_asked"
    ENDING = "ending"
    ENDED = "ended"
    SEEN = "seen"
    WEBHOOK_WAITING = "webhook_waiting"
    WEBHOOK_ENDED = "webhook_ended"


_KINDS: Final = frozenset(StepKind)


@dataclass(frozen=True, slots=True)
class Step:
    """One step in the timeline of a response.

    `at` is a time of Redis in milliseconds since 1970, and `since_ms` the time since the
    submission. `attempt` is 0 for a step that belongs to no attempt. `worker` is the id of the
    worker that claimed the job, or "". `code` says why or how: the HTTP status of the model's
    endpoint, the reason of a retry, the status or the error code at the end, the result of a
    webhook. `wait_ms` is the delay of a retry, and
    `tries` the number of attempts to deliver a webhook.
    """

    kind: StepKind
    at: int
    since_ms: int
    attempt: int = 0
    worker: str = ""
    code: str = ""
    wait_ms: int | None = None
    tries: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns the step as a JSON object."""
        return {**asdict(self), "kind": str(self.kind)}


@dataclass(frozen=True, slots=True)
class Timeline:
    """The steps of one response, from its submission to its end and its webhook.

    `complete` is False if the oldest steps are missing, because a record has a limited size, or if
    the log could not be decoded, so that restarts and the error code are missing.
    """

    response_id: str
    status: str
    tenant: str
    tier: str
    model: str
    attempts: int
    failures: int
    complete: bool
    steps: tuple[Step, ...]

    def as_dict(self) -> dict[str, Any]:
        """Returns the timeline as a JSON object."""
        return {**asdict(self), "steps": [step.as_dict() for step in self.steps]}


# The fields of a job's record that `timeline` reads.
FIELDS: Final = (
    "status",
    "owner",
    "queue_name",
    "number",
    "attempt",
    "failures",
    "submitted",
    "ended",
    "seen",
    "hook_end",
    "steps",
)


@dataclass(frozen=True, slots=True)
class LogSummary:
    """The parts of a log that a timeline needs: the changes of the attempt, and the end.

    `changes` maps the number of an attempt to its kind, `RESTARTED` or `CONTINUED`, and its reason.
    `code` is the error code or the reason of an incomplete response. `timing` is the object with
    that name in the last event.
    """

    changes: Mapping[int, tuple[StepKind, str]]
    model: str
    code: str
    timing: Mapping[str, int]


def summary_of(events: Iterable[Event]) -> LogSummary:
    """Returns the summary of a log."""
    changes: dict[int, tuple[StepKind, str]] = {}
    model, code = "", ""
    timing: dict[str, int] = {}
    for event in events:
        kind = event["type"]
        if kind in (RESTARTED, CONTINUED):
            restarts = kind == RESTARTED
            step = StepKind.RESTARTED if restarts else StepKind.CONTINUED
            changes[event["attempt"]] = step, event["reason"]
        elif kind in TERMINAL_TYPES:
            response = event["response"]
            code = (response.get("error") or {}).get("code") or ""
            code = code or (response.get("incomplete_details") or {}).get("reason") or ""
            timing = response.get("holdline", {}).get("timing", {})
            model = response.get("holdline", {}).get("model", "")
    return LogSummary(changes, model, code, timing)


def timeline(
    response_id: str,
    record: Mapping[str, str],
    log: LogSummary | None,
    *,
    webhook: tuple[int, int] | None = None,
    first_token: tuple[int, int] | None = None,
) -> Timeline:
    """Returns the timeline of a response.

    `record` contains those of the `FIELDS` of the job that exist. `log` is None if the log could
    not be decoded. `webhook` is the due time and the number of tries of a webhook that waits.
    `first_token` is the attempt and the time of the first token of a running response.
    """
    submitted = int(record.get("submitted", 0))
    queue_name = record.get("queue_name", "")
    recorded = list(_recorded(record.get("steps", ""), submitted))
    steps = [Step(StepKind.SUBMITTED, submitted, 0)]
    if "number" in record:  # a request without generation is never queued
        steps.append(Step(StepKind.QUEUED, submitted, 0, code=f"{tier_of(queue_name)} tier"))
    steps += _with_changes(recorded, log)
    steps += _first_token(record, log, first_token, submitted)
    steps += _after(record, log, webhook, submitted)
    first = next((step for step in recorded if step.kind is StepKind.CLAIMED), None)
    return Timeline(
        response_id=response_id,
        status=record.get("status", ""),
        tenant=tenant_of(record.get("owner", "")),
        tier=tier_of(queue_name),
        model=(log.model if log else "") or model_of(queue_name),
        attempts=int(record.get("attempt", 0)),
        failures=int(record.get("failures", 0)),
        complete=log is not None and (first is None or first.attempt == 1),
        steps=tuple(sorted(steps, key=lambda step: step.at)),
    )


def _recorded(steps: str, submitted: int) -> Iterator[Step]:
    """Yields the steps that the scripts recorded: lines of a kind, a time and further words."""
    attempt, worker = 0, ""
    for line in steps.splitlines():
        kind, at, *words = line.split(" ")
        if kind not in _KINDS:
            continue  # a newer version has recorded this step
        made: dict[str, Any] = {}
        match kind, words:
            case "claimed", [number, name]:
                attempt, worker = int(number), name
            case "called_again", [number]:
                attempt = int(number)
            case "delayed", [delay, reason]:
                made = {"code": reason, "wait_ms": int(delay)}
            case _, [reason]:
                made = {"code": reason}
            case _:
                pass
        yield Step(StepKind(kind), int(at), int(at) - submitted, attempt, worker, **made)


def _with_changes(recorded: list[Step], log: LogSummary | None) -> Iterator[Step]:
    """Yields the recorded steps, and after the start of an attempt what it did to the answer.

    The log has no times, so a restart has the time at which its attempt began.
    """
    told: set[int] = set()
    for step in recorded:
        yield step
        begins = step.kind in (StepKind.CLAIMED, StepKind.CALLED_AGAIN)
        if begins and log is not None and step.attempt in log.changes and step.attempt not in told:
            told.add(step.attempt)
            kind, reason = log.changes[step.attempt]
            yield Step(kind, step.at, step.since_ms, step.attempt, step.worker, reason)


def _first_token(
    record: Mapping[str, str],
    log: LogSummary | None,
    running: tuple[int, int] | None,
    submitted: int,
) -> Iterator[Step]:
    """Yields the first token of the last attempt, if there was one.

    After the end, its time is computed from the durations that the worker measured.
    """
    attempt, at = int(record.get("attempt", 0)), None
    timing = log.timing if log is not None else {}
    if "first_token_ms" in timing and "ended" in record:
        began = timing.get("total_ms", 0) - timing.get("model_ms", 0)
        at = min(submitted + max(began, 0) + timing["first_token_ms"], int(record["ended"]))
    elif running is not None:
        attempt, at = running
    if at is not None:
        yield Step(StepKind.FIRST_TOKEN, at, at - submitted, attempt)


def _after(
    record: Mapping[str, str],
    log: LogSummary | None,
    webhook: tuple[int, int] | None,
    submitted: int,
) -> Iterator[Step]:
    """Yields the end of the response, its receipt by a client, and its webhook."""
    if "ended" in record:
        at, status = int(record["ended"]), record.get("status", "")
        code = f"{status}: {log.code}" if log is not None and log.code else status
        attempt = int(record.get("attempt", 0))
        yield Step(StepKind.ENDED, at, at - submitted, attempt, code=code)
    if "seen" in record:
        at = int(record["seen"])
        yield Step(StepKind.SEEN, at, at - submitted)
    if "hook_end" in record:
        how, _, time = record["hook_end"].partition(" ")
        yield Step(StepKind.WEBHOOK_ENDED, int(time), int(time) - submitted, code=how)
    if webhook is not None:
        due, tries = webhook
        yield Step(StepKind.WEBHOOK_WAITING, due, due - submitted, tries=tries)
