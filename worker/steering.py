"""Decides the outcome of a response's steers when the response ends."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import structlog

from jobs.ids import new_response_id
from jobs.log.log import ANY_STEERS
from jobs.names import partition_of
from jobs.owed import owed
from jobs.record import Job, Status
from jobs.steers import PENDING, input_of

if TYPE_CHECKING:
    from jobs.log.log import Successor
    from jobs.steers import Steer

    from .context import WorkerContext

Item = dict[str, Any]

# The maximum number of items in the prompt of a successor, as in any other prompt.
MAX_ITEMS: Final = 10_000

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SteerOutcome:
    """The outcome of a response's steers.

    `steers` and `successor` are arguments of `Flusher.finish`. The members of `shown` are added to
    the object `holdline` in the response's last event.
    """

    steers: int = ANY_STEERS
    successor: Successor | str = ""
    shown: dict[str, Any] = field(default_factory=dict)


async def steer_outcome(
    context: WorkerContext, job: Job, status: Status, output: list[Item], *, steered: bool
) -> SteerOutcome:
    """Returns the outcome of the steers of a response that is about to end with this output.

    If `steered` is False, the response is assumed to have no steers, and Redis is not asked.
    """
    if status not in (Status.COMPLETED, Status.INCOMPLETE):
        return SteerOutcome()
    if not steered:
        return SteerOutcome(steers=0)
    found = await context.retry(lambda: context.queue.steers.read(job.id))
    count = len(found.steers)
    if count == 0:
        return SteerOutcome(steers=0)
    if owed(output):
        return SteerOutcome(count, PENDING, {"pending_steers": count})
    successor = _successor(job, output, found.steers)
    endpoint = context.config.endpoints.get(job.params["model"])
    made = context.queue.successor(successor, endpoint.price if endpoint else None)
    limit = min(steer.max_context_bytes for steer in found.steers)
    items = len(successor.context) + len(successor.params["input"])
    if len(made["record"]) > limit or items > MAX_ITEMS:
        log.info("steers returned to the client: successor response too large", response_id=job.id)
        return SteerOutcome(count)
    return SteerOutcome(count, made, {"successor_id": successor.id})


def _successor(job: Job, output: list[Item], steers: list[Steer]) -> Job:
    id_ = new_response_id(partition_of(job.id))
    context = [*job.context, *job.params["input"], *filter(is_whole, output)]
    params = {**job.params, "input": input_of(steers, id_), "previous_response_id": job.id}
    return Job(id_, job.owner, int(time.time()), params, context)


def is_whole(item: Item) -> bool:
    """Returns True if a model accepts the item in a conversation.

    Interrupted text is kept. Models reject an interrupted item of any other type.
    """
    if item["type"] == "message":
        return bool(item.get("content"))
    return item.get("status") != "incomplete"
