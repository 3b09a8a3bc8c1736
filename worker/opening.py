"""The beginning of an attempt: the state of its log, and the events before the model call."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from jobs.log.codec import encode_event
from jobs.log.events import begins, restarted, submitted
from jobs.log.response_state import ResponseState

from .ending import read_state

if TYPE_CHECKING:
    from jobs.log.codec import Event
    from jobs.record import Job
    from jobs.replies import Grant

    from .compactor import Head
    from .context import WorkerContext

# The entries of a log before the first claim.
SUBMITTED: Final = 2


class Opening(NamedTuple):
    """The beginning of an attempt.

    `events` are to be appended to a log of `length` entries, whose fold is `state`. `head` returns
    these entries.
    """

    events: list[Event]
    state: ResponseState
    length: int
    head: Head


async def read_opening(context: WorkerContext, grant: Grant, job: Job) -> Opening:
    """Reads how this attempt begins. Raises: Undecodable, UnknownResponse, RedisTrouble."""
    if grant.attempt == 1:
        # As a rule the claim has appended that the attempt begins.
        first = [] if grant.length > SUBMITTED else [begins(job)]
        return Opening(
            first, ResponseState(), grant.length, partial(_first_entries, job, grant.length)
        )
    view, state = await read_state(context, grant)
    events: list[Event] = []
    if view.length == 0:
        events += submitted(job)
    events += state.close()
    events.append(restarted(job, grant.attempt, grant.reason))
    if state.last is None or state.last["status"] != "in_progress":
        events.append(begins(job))
    return Opening(events, state, view.length, lambda: view.entries)


def _first_entries(job: Job, length: int) -> list[bytes]:
    """The log of a job that is claimed for the first time."""
    return [encode_event(event) for event in (*submitted(job), begins(job))][:length]
