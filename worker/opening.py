"""Prepares an attempt: reads the state of its log, and builds the events before the model call."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from jobs.checkpoint import decoded
from jobs.log.codec import encode_event
from jobs.log.events import begins, opening_events, restarted, submitted
from jobs.log.response_state import ResponseState
from jobs.owed import owed

from .ending import read_state
from .steering import is_whole

if TYPE_CHECKING:
    from jobs.checkpoint import Checkpoint
    from jobs.log.codec import Event
    from jobs.log.items import Item
    from jobs.record import Job
    from jobs.replies import Grant

    from .compactor import Head
    from .context import WorkerContext

# The number of entries that a log has before a worker first claims the job.
SUBMITTED: Final = 2
# The reasons for which a job waits again after its worker has died or has stopped.
WORKER_LOST: Final = ("worker_lost", "draining")


class Opening(NamedTuple):
    """The log at the beginning of an attempt, and the events to append to it.

    The log has `length` entries, which `head` returns. The events in `closing` complete it, and
    `state` is the response state after them. `closing` and then `events` must be appended before
    the model call. `worker_lost` is True if the earlier attempt ended with its worker, and False if
    its model call failed. If the grant has a checkpoint, there are no such events, because the
    answer may be continued; `checkpoint` is None if it is invalid.
    """

    closing: list[Event]
    events: list[Event]
    state: ResponseState
    length: int
    head: Head
    worker_lost: bool = False
    checkpoint: Checkpoint | None = None

    def ending(self, *, steered: bool, fails: bool, spent: bool) -> tuple[str, list[Item]] | None:
        """Returns the cause and the output with which the response ends without another attempt.

        If a worker was lost, the client may have executed the finished calls of the attempt
        already, and another attempt would repeat them. The response therefore ends with these
        calls, unless a text was cut off. A steered response ends with any other output, and so does
        a response that has `spent` its output tokens. `fails` is True if the loss of a worker fails
        the response. Returns None if another attempt follows.
        """
        output = self.state.output
        is_owed = owed(output)
        cut = any(item["type"] == "message" and item["status"] == "incomplete" for item in output)
        if output and not is_owed and (steered or spent):
            return "steered" if steered else "length", output
        if is_owed and self.worker_lost and not cut:
            return "stop", list(filter(is_whole, output))
        return ("worker_lost", output) if fails and self.worker_lost and output else None


async def read_opening(context: WorkerContext, grant: Grant, job: Job) -> Opening:
    """Reads the log of a claimed job, and returns the opening of the attempt.

    Raises: Undecodable, UnknownResponse, RedisTrouble.
    """
    checkpoint = decoded(grant.checkpoint)
    if grant.attempt == 1 and not grant.checkpoint:
        # The claim script has usually appended the event that begins the attempt.
        first = [] if grant.length > SUBMITTED else [begins(job)]
        return Opening(
            [], first, ResponseState(), grant.length, partial(_first_entries, job, grant.length)
        )
    view, state = await read_state(context, grant)
    lost = grant.reason in WORKER_LOST
    opening = Opening([], [], state, view.length, lambda: view.entries, lost, checkpoint)
    if grant.checkpoint and state.end is None:
        return opening  # the worker may continue the answer
    return begun_again(opening, grant, job)


def begun_again(opening: Opening, grant: Grant, job: Job) -> Opening:
    """Returns the opening of an attempt that calls the model again."""
    state = opening.state
    closing = [*(submitted(job) if opening.length == 0 else ()), *state.close()]
    events = [restarted(job, grant.attempt, grant.reason)]
    if state.last is None or state.last["status"] != "in_progress":
        events.append(begins(job))
    return opening._replace(closing=closing, events=events, checkpoint=None)


def _first_entries(job: Job, length: int) -> list[bytes]:
    """Returns the first `length` entries in the log of a job on its first attempt."""
    return [encode_event(event) for event in opening_events(job)[:length]]
