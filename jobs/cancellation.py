"""Cancels a response, for a client or for an operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .conversations import Pending
from .errors import Diverged, UnknownResponse
from .log.codec import decode_event, job_of
from .log.events import terminal
from .log.log import read_all
from .log.response_state import ResponseState
from .names import names_of
from .record import Status
from .settlement import settle

if TYPE_CHECKING:
    from .log.view import View
    from .queue import Queue
    from .record import Job
    from .redis.pipe import Pipe

# Each attempt fails if the log has grown since it was read.
TRIES: Final = 5


async def cancel(pipe: Pipe, queue: Queue, response_id: str, *, viewer: str = "") -> bool:
    """Cancels a response that the viewer may see; an empty viewer sees all responses.

    A queued response ends at once. The worker of a running response is asked to stop. A finished
    response is left unchanged. Returns True if the response has ended, and False if its worker was
    asked to end it.

    Raises: UnknownResponse, Undecodable, RedisTrouble; Diverged if the log grew after each read.
    """
    tries = TRIES
    while True:
        view = await read_all(pipe, response_id, viewer=viewer)
        data = await pipe.call("HGET", names_of(response_id).job(response_id), "job")
        if data is None:
            raise UnknownResponse(response_id)
        job = job_of(response_id, data, pipe.cipher)
        tries -= 1
        try:
            ended = await queue.cancel(response_id, view.length, _last_events(job, view))
        except Diverged:
            if not tries:
                raise
            continue
        if ended:
            await queue.turns.release(response_id, job.turns)
            if job.conversation:
                pending = [Pending(response_id, 0, asked=False)]
                await settle(pipe, queue.conversations, job.conversation, pending)
        return ended


def _last_events(job: Job, view: View) -> list[dict[str, Any]]:
    """Returns the events that end the log of a cancelled response, or none if it has ended."""
    state = ResponseState(decode_event(entry) for entry in view.entries)
    if state.end is not None:
        return []
    end = terminal(
        job,
        Status.CANCELLED,
        output=state.output,
        attempts=view.attempt,
        timing={},
        completed_at=0,
    )
    return [*state.close(), end]
