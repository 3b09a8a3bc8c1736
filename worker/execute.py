"""Executes one claimed job.

An execution decodes the job, announces the attempt, calls the model, decides on the result, and
applies the decision.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, assert_never

import structlog

from jobs.errors import (
    EncryptionKeyMissing,
    Fenced,
    Gone,
    NewerFormat,
    TurnMissing,
    Undecodable,
    UnknownResponse,
)
from jobs.log.codec import job_of
from jobs.log.events import terminal
from jobs.log.log import LogWriter
from jobs.record import Job, Status
from runtime import tracing

from .attempt_report import log_attempt, running_record, timing_of
from .ending import close, error_of, settle
from .flusher import Flusher, LogLost
from .generation import Generation
from .job_size import overhead
from .metrics import DELETED, TAKEN
from .model_pause import pause_model
from .opening import read_opening
from .outcome import CAUSES, Decision, Finished, GiveBack, RetryAfter, Then, decide
from .output import naming
from .recovery import Recovery
from .spent import spent_before
from .steering import steer_outcome
from .stop import ENDED, Stop
from .upstream.left_out import left_out

if TYPE_CHECKING:
    from jobs.log.codec import Event
    from jobs.log.items import Item
    from jobs.replies import Grant
    from jobs.worker_registry import RunningRecord

    from .context import WorkerContext
    from .model_call import ModelCall
    from .output import Output
    from .spent import Spent

log = structlog.get_logger()

# The delay before the next attempt if this worker lacks the job's encryption key or is too old for
# the job. After it, another worker may claim the job. Meanwhile, an operator may add the key.
OTHERS_SECONDS: Final = 15.0


class Execution:
    """The execution of one job that this worker has claimed.

    Call `run` once. `stop` may be called at any time and more than once.
    """

    def __init__(self, context: WorkerContext, partition: int, grant: Grant) -> None:
        self._context = context
        self.partition = partition
        self.grant = grant
        # An estimate of the job's memory in bytes, which grows when the job is decoded.
        self.size = len(grant.job)
        self._job: Job | None = None
        self._claimed = time.monotonic()
        self._stopped: Stop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._item_id = naming(grant.response_id, grant.attempt, grant.claim)
        self._generation = Generation(context, self._item_id)
        self._steered = False
        self._called: set[str] = set()  # the call ids of earlier attempts
        self._continuations = 0
        self._log = log.bind(response_id=grant.response_id, attempt=grant.attempt)

    def stop(self, reason: Stop) -> None:
        """Stops the job. LOST and GONE override all others, and CANCEL overrides GIVE_BACK."""
        if reason in ENDED or self._stopped in (None, Stop.GIVE_BACK):
            self._stopped = reason
        if reason in ENDED and self._task is not None:
            self._task.cancel()
            self._task = None  # the next renewal reports the same again
        else:
            self._generation.stop()

    @property
    def _call(self) -> ModelCall:
        """The latest model call of the attempt."""
        return self._generation.call

    def steer(self) -> None:
        """Ends the model call when its output can be interrupted, because there is a steer."""
        self._steered = True
        self._generation.steer()

    @property
    def can_be_continued(self) -> bool:
        """True if another worker can continue the model call now, without a second call."""
        return self._call.can_be_continued

    @property
    def exhausted(self) -> bool:
        """True if the model call failed because this worker lacks file descriptors or memory."""
        return self._call.cause == "worker_exhausted"

    def record(self, now: float) -> RunningRecord:
        """Returns what the record of this worker says about the job.

        `now` is the current time, as `time.monotonic()` returns it.
        """
        return running_record(self.grant, self._call, self._job, self._claimed, now)

    async def run(self) -> None:
        """Runs the job until it has ended, is queued for another attempt or has been lost.

        Raises: RedisTrouble if Redis was unavailable for too long. The job's lease then expires,
        and another worker takes the job over.
        """
        task = self._task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        try:
            await self._run()
        except (Fenced, Gone, UnknownResponse) as error:
            self._log.info("lease lost: job stopped on this worker", error=type(error).__name__)
            self._stopped = Stop.LOST if isinstance(error, Fenced) else Stop.GONE
        except asyncio.CancelledError:
            if self._stopped not in ENDED:
                raise
            # The cancellation came from `stop` and must not leave this method.
            task.uncancel()
            self._log.info(
                "lease lost: job stopped on this worker", reason="the lease could not be renewed"
            )
        finally:
            self._task = None
            if self._stopped in ENDED:
                tracing.current().fail("lease_lost")
                reason = TAKEN if self._stopped is Stop.LOST else DELETED
                self._context.metrics.leases_lost.labels(reason).inc()
        if self._stopped in ENDED:
            await self._abandon_upstream()

    async def fail(self) -> None:
        """Retries the job or ends its response after an unexpected error.

        Raises: RedisTrouble.
        """
        with contextlib.suppress(Fenced, Gone, UnknownResponse):
            await self._retry_or_close("worker_error")

    async def _run(self) -> None:
        grant = self.grant
        try:
            job = self._job = job_of(grant.response_id, grant.job, self._context.pipe.cipher)
            # Drops the encoded job, because the decoded job replaces it.
            self.grant = grant = grant._replace(job=b"")
            self.size += overhead(job.params)
            if grant.cancelled:
                await self._close("cancelled")
            else:
                await self._attempt(await self._with_context(job))
        except TurnMissing as error:
            self._log.warning(
                "Redis lost an earlier turn: ending the response", turn_id=error.response_id
            )
            await self._close("context_lost")
        except LogLost as error:
            self._log.warning(
                "Redis lost entries of a response log: attempt failed", reason=str(error)
            )
            await self._retry_or_close("log_lost")
        except EncryptionKeyMissing as error:
            self._log.error(
                "encryption key missing: job cannot be decrypted",
                key_id=error.key_id,
                action="add the key to the HOLDLINE_ENCRYPTION_KEYS file of this worker",
            )
            await self._leave_to_others("key_missing")
        except NewerFormat:
            self._log.error(
                "job has a newer format: job left to newer workers",
                action="upgrade this worker",
            )
            await self._leave_to_others("request_too_new")
        except Undecodable:
            await self._close("undecodable")

    async def _with_context(self, job: Job) -> Job:
        """Loads the items of the conversation's earlier turns, and returns the job with them.

        Raises: TurnMissing.
        """
        if not job.turns:
            return job
        self.size += job.context_bytes
        context = await self._context.retry(
            lambda: self._context.queue.turns.load(job.id, job.turns)
        )
        self._job = replace(job, context=context)
        self.size += overhead(context)
        return self._job

    async def _attempt(self, job: Job) -> None:
        grant, context, generation = self.grant, self._context, self._generation
        if grant.attempt == 1 and not grant.checkpoint:
            context.metrics.started(job.params.get("model"), grant.waited_ms)
        opening = await context.retry(lambda: read_opening(context, grant, job))
        writer = LogWriter(context.pipe, grant.response_id, grant.claim, opening.length)
        async with Flusher(
            writer,
            context.interval,
            on_cancel=lambda: self.stop(Stop.CANCEL),
            on_loss=generation.stop,
            retry_seconds=context.config.redis_retry_seconds,
            max_unsent_bytes=context.config.max_unsent_bytes,
            compact=partial(context.compactor.compact, writer, opening.head),
            metrics=context.metrics,
        ) as flusher:
            if opening.state.end is not None:
                # The log has its last event, but Redis lost the job's final state. The worker
                # writes that state again.
                await self._repeat_end(writer, opening.state.end)
                return
            self._called = opening.state.call_ids
            if grant.steers:
                self.steer()
            recovery = Recovery(context, generation, self._item_id, grant, job, opening, flusher)
            try:
                output = await recovery.output()
            finally:
                self.grant, self._continuations = recovery.grant, recovery.continuations
                self._log = self._log.bind(attempt=self.grant.attempt)
            if output is None:
                cause, items = recovery.ending
                decision = self._decide_on(cause)
                assert isinstance(decision, Finished)  # noqa: S101 - the cause ends a response
                spent = spent_before(context.config, grant, job, opening.state)
                await self._finish(decision, job, items, flusher, spent)
                await recovery.abandon()
            else:
                await self._apply(self._decide(), job, output, flusher)

    # The decision on the result of the model call

    def _decide(self) -> Decision:
        call = self._call
        if call.cause == "cancelled" and self._stopped is Stop.GIVE_BACK:
            self._count("draining")
            return GiveBack("draining")
        again = CAUSES[call.cause].then in (Then.RETRY, Then.GIVE_BACK) or call.cause == "steered"
        if self._stopped is Stop.CANCEL and again:
            # The client cancelled the response while the call failed or was ended for a steer, so
            # no other call is made.
            call.cause = "cancelled"
        return self._decide_on(call.cause, call.retry_after)

    def _decide_on(self, cause: str, retry_after: float | None = None) -> Decision:
        self._count(cause)
        return decide(
            cause,
            failures=self.grant.failures,
            policy=self._context.policy,
            jitter=random.random(),  # noqa: S311 - jitter need not be secure
            retry_after=retry_after,
        )

    def _count(self, cause: str) -> None:
        model = self._job.params.get("model") if self._job is not None else None
        self._context.metrics.attempted(model, cause)

    # Applying the decision

    async def _apply(self, decision: Decision, job: Job, output: Output, flusher: Flusher) -> None:
        if isinstance(decision, GiveBack):
            if flusher.checkpoint is not None:
                await flusher.drain()  # stores the checkpoint
            await self._give_back(decision.reason)
            return
        await pause_model(self._context, self.grant, job, self._call)
        try:
            match decision:
                case RetryAfter():
                    await flusher.drain()
                    await self._retry(decision)
                case Finished():
                    completed = decision.status is Status.COMPLETED
                    items = output.end(completed=completed)
                    spent = self._generation.spent(self._context.config.model)
                    await self._finish(decision, job, items, flusher, spent)
                case _:
                    assert_never(decision)
        # The log line is written last, so that the client does not wait for it.
        finally:
            model = self._call.model or job.params.get("model")
            log = self._log.bind(model=self._context.metrics.label(model))
            log_attempt(log, decision, self._call, self.grant, self._claimed, output.size)
        await self._end_upstream(decision)

    async def _end_upstream(self, decision: Decision) -> None:
        """Ends the generation of an answer in the background that no worker will read."""
        if not (isinstance(decision, RetryAfter) and self._call.resumable):
            await self._cancel_upstream()

    async def _abandon_upstream(self) -> None:
        """Ends the generation of answers in the background after the lease was lost.

        Another worker continues the answer of the stored checkpoint, so that answer must not end.
        """
        kept = None
        if self._stopped is Stop.LOST and self._call.unfinished:
            checkpoint = await self._context.queue.leases.checkpoint(self.grant.response_id)
            if checkpoint is not None:
                kept = checkpoint.model, checkpoint.upstream_id
        await self._cancel_upstream(kept)

    async def _cancel_upstream(self, kept: tuple[str, str] | None = None) -> None:
        for model, upstream_id in self._call.unfinished:
            if (model, upstream_id) != kept:
                await self._context.router.cancel(model, upstream_id)

    async def _finish(
        self, decision: Finished, job: Job, items: list[Item], flusher: Flusher, spent: Spent
    ) -> None:
        """Ends the response with the output `items`, whose calls have `spent` these tokens."""
        call, config = self._call, self._context.config
        shown = self._generation.job or job
        timing = timing_of(self.grant, call, self._claimed)
        left = left_out(shown, config.endpoints.get(spent.model or ""))
        while True:
            outcome = await steer_outcome(
                self._context, job, decision.status, items, steered=self._steered
            )
            last = terminal(
                job,
                decision.status,
                output=items,
                attempts=self.grant.attempt,
                timing=timing,
                completed_at=int(time.time()),  # a wall-clock time, for display only
                usage=spent.usage,
                error=error_of(decision),
                incomplete=decision.reason,
                model=spent.model,
                reported=call.reported,
                left_out=left,
                steered=outcome.shown,
                called=self._called,
                continuations=self._continuations,
            )
            if await flusher.finish(
                decision.status,
                last,
                retention_ms=config.shared.retention_ms,
                tokens=spent.tokens,
                money=spent.cost,
                steers=outcome.steers,
                successor=outcome.successor,
                http_status=call.http_status,
            ):
                break
            self._steered = True
        self._context.metrics.ended(job.params.get("model"), decision.status, timing)
        await settle(self._context, job, last["response"])

    async def _repeat_end(self, writer: LogWriter, end: Event) -> None:
        status = Status(end["response"]["status"])
        await self._context.retry(
            lambda: writer.finish(status, [], retention_ms=self._context.config.shared.retention_ms)
        )

    async def _give_back(self, reason: str) -> None:
        self._log.info("job returned to the queue", cause=reason)
        tracing.current().set({"holdline.cause": reason})
        grant = self.grant
        await self._context.queue.leases.give_back(grant.response_id, grant.claim, reason)

    async def _retry(self, decision: RetryAfter) -> None:
        grant, leases = self.grant, self._context.queue.leases
        await self._context.retry(
            lambda: leases.retry(
                grant.response_id,
                grant.claim,
                decision.delay_ms,
                decision.reason,
                keeps_checkpoint=self._call.resumable,
                http_status=self._call.http_status,
            )
        )

    async def _retry_or_close(self, cause: str, after: float | None = None) -> None:
        """Queues the job for another attempt, or ends its response with the output in the log."""
        decision = self._decide_on(cause, after)
        if isinstance(decision, RetryAfter):
            await self._retry(decision)
        else:
            await self._close(cause)
        await self._end_upstream(decision)

    async def _leave_to_others(self, cause: str) -> None:
        """Queues a job that this worker cannot read for other workers, unless it is cancelled."""
        if self.grant.cancelled:
            await self._close("cancelled")
        else:
            await self._retry_or_close(cause, OTHERS_SECONDS)

    async def _close(self, cause: str) -> None:
        tracing.current().set({"holdline.cause": cause})
        await close(self._context, self.grant, cause, self._job)
