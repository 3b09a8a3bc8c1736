"""Ends a response with the output already in its log, without a model call."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from jobs.checkpoint import decoded
from jobs.errors import NotReadableHere, RedisTrouble, Undecodable
from jobs.log.codec import decode_event, job_of
from jobs.log.events import terminal
from jobs.log.log import LogWriter, read, read_all
from jobs.log.response_state import ResponseState
from jobs.log.view import View
from jobs.record import Job, Status

from .flusher import Flusher
from .outcome import Finished, Policy, decide
from .spent import spent_before

if TYPE_CHECKING:
    from jobs.replies import Grant

    from .context import WorkerContext

log = structlog.get_logger()


async def close(context: WorkerContext, grant: Grant, cause: str, job: Job | None = None) -> None:
    """Ends a response with the output already in its log, without a model call.

    `grant` is the claimed job, and `job` its decoded form if the caller has decoded it already.

    Raises: Fenced, Gone or UnknownResponse if another attempt holds the response or if the response
    was deleted; RedisTrouble.
    """
    started = time.monotonic()
    decision = decide(cause, failures=grant.failures, policy=Policy(max_attempts=0), jitter=0.0)
    if not isinstance(decision, Finished):
        raise TypeError(f"the cause {cause} does not end a response, but allows another attempt")
    # Jobs that repeatedly lose their workers and jobs that cannot be decoded go to the dead list,
    # where an operator can inspect them.
    poison = cause == "worker_lost" and grant.failures >= context.policy.max_attempts
    bury = poison or cause == "undecodable"
    try:
        view, state = await read_state(context, grant)
    except Undecodable as error:
        # If only the encryption key is missing, or this worker is too old, the job may be valid, so
        # it does not go to the dead list.
        bury = bury or not isinstance(error, NotReadableHere)
        view = await context.retry(lambda: read(context.pipe, grant.response_id, 0, max_entries=0))
        state = ResponseState()
    try:
        job = job or job_of(grant.response_id, grant.job, context.pipe.cipher)
    except Undecodable:
        # The last snapshot of the response in the log has all request fields that the final
        # snapshot needs.
        params = state.last or {"model": "unknown", "created_at": 0}
        job = Job(grant.response_id, view.owner, params["created_at"], params)
    writer = LogWriter(context.pipe, grant.response_id, grant.claim, view.length)
    flusher = Flusher(
        writer,
        context.interval,
        on_cancel=_ignored,
        on_loss=_ignored,
        retry_seconds=context.config.redis_retry_seconds,
        max_unsent_bytes=context.config.max_unsent_bytes,
        compact=partial(context.compactor.compact, writer, lambda: view.entries),
        metrics=context.metrics,
    )
    flusher.add(*state.close())
    spent = spent_before(context.config, grant, job, state)
    took = round(1000 * (time.monotonic() - started))
    timing = {"queued_ms": grant.waited_ms, "total_ms": grant.waited_ms + took}
    last = terminal(
        job,
        decision.status,
        output=state.output,
        attempts=grant.attempt,
        timing=timing,
        completed_at=int(time.time()),
        usage=spent.usage,
        error=error_of(decision),
        model=spent.model,
        called=state.call_ids,
        continuations=len(state.continued),
    )
    await flusher.finish(
        decision.status,
        last,
        retention_ms=context.config.shared.retention_ms,
        bury=bury,
        tokens=spent.tokens,
        money=spent.cost,
    )
    context.metrics.ended(job.params.get("model"), decision.status, timing)
    context.metrics.dead.inc(bury)
    await settle(context, job, last["response"])
    if (checkpoint := decoded(grant.checkpoint)) is not None and checkpoint.upstream_id:
        await context.router.cancel(checkpoint.model, checkpoint.upstream_id)
    log.info(
        "response ended without a model call",
        response_id=grant.response_id,
        cause=cause,
        dead_list=bury,
    )


async def settle(context: WorkerContext, job: Job, response: dict[str, Any]) -> None:
    """Releases the earlier turns of a finished job, or appends its items to its conversation.

    `response` is the final snapshot of the response.

    If Redis is unavailable, the turns expire by their TTL instead, and `conversation_settler` of a
    worker appends the items later.
    """
    with contextlib.suppress(RedisTrouble):
        if job.turns:
            await context.queue.turns.release(job.id, job.turns)
        if job.conversation:
            await context.queue.conversations.append(
                job.conversation,
                job.id,
                job.params.get("input", []),
                response["output"],
                status=Status(response["status"]),
                previous=job.continues,
                model=response["model"] or "",
            )


async def read_state(context: WorkerContext, grant: Grant) -> tuple[View, ResponseState]:
    """Reads a response's log, and builds the response state from its events.

    Raises: Undecodable.
    """
    view = await context.retry(lambda: read_all(context.pipe, grant.response_id))
    try:
        return view, ResponseState(map(decode_event, view.entries))
    except (LookupError, TypeError) as error:
        # Each entry of the log is valid, but the sequence of entries is not. Another program must
        # have written this log.
        raise Undecodable("the events of the response log are inconsistent") from error


def error_of(decision: Finished) -> dict[str, Any] | None:
    return None if decision.code is None else {"code": decision.code, "message": decision.message}


def _ignored() -> None:
    """Does nothing, because there is no model call to stop."""
