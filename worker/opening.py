"""How an attempt begins: what its log holds, and what it says before it calls the model."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from jobs.log.codec import encode_event
from jobs.log.events import begins, restarted, submitted
from jobs.log.response_state import ResponseState

from .ending import look

if TYPE_CHECKING:
    from jobs.log.codec import Event
    from jobs.record import Job
    from jobs.replies import Grant

    from .compactor import Head
    from .context import WorkerContext

# Entries of a log whose job nobody has claimed yet.
SUBMITTED: Final = 2


class Opening(NamedTuple):
    """`events` are to be said; before them there was `transcript`, which are `length` entries.

    `head` makes these entries, as they are or must be.
    """

    events: list[Event]
    transcript: ResponseState
    length: int
    head: Head


async def opened(context: WorkerContext, grant: Grant, job: Job) -> Opening:
    """How this attempt begins. Raises: Undecodable, UnknownResponse, RedisTrouble."""
    if grant.attempt == 1:
        # Mostly the claim has said that it begins.
        first = [] if grant.length > SUBMITTED else [begins(job)]
        return Opening(first, ResponseState(), grant.length, partial(_said, job, grant.length))
    view, transcript = await look(context, grant)
    events: list[Event] = []
    if view.length == 0:
        events += submitted(job)
    events += transcript.close()
    events.append(restarted(job, grant.attempt, grant.reason))
    if transcript.last is None or transcript.last["status"] != "in_progress":
        events.append(begins(job))
    return Opening(events, transcript, view.length, lambda: view.entries)


def _said(job: Job, length: int) -> list[bytes]:
    """The log of a job that is claimed for the first time."""
    return [encode_event(event) for event in (*submitted(job), begins(job))][:length]
