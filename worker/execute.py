"""One claimed job, from started to finished.

    decode -> announce -> call the model -> decide -> apply

A job is stopped from outside in one of three ways, and each has one place where it is obeyed:

    CANCEL      the model call is closed, what was said is kept, the response ends as cancelled
    GIVE_BACK   the model call is closed, the job goes to the front of the queue
    LOST        everything is dropped at once and not one byte more is written
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Final, assert_never

import structlog

from jobs.errors import EncryptionKeyMissing, Fenced, Gone, Undecodable, UnknownResponse
from jobs.log.codec import job_of
from jobs.log.events import terminal
from jobs.log.log import LogWriter
from jobs.names import item_id
from jobs.record import Job, Status
from jobs.redis.retry import retry

from .ending import close, error_of
from .flusher import Flusher, LogLost
from .opening import opened
from .outcome import CAUSES, Finished, RetryAfter, Then, cause_of, decide
from .output import NotAllowed, Output, TooLong
from .upstream import chat_request, usage
from .upstream.chat_chunks import Malformed, Stopped, Usage
from .upstream.messages import UnsupportedInput
from .upstream.stream import ModelError

if TYPE_CHECKING:
    from jobs.log.codec import Event
    from jobs.replies import Grant

    from .context import WorkerContext

log = structlog.get_logger()

# Another worker may have the key; who gets a new one is restarted meanwhile.
KEY_SECONDS: Final = 15.0


class Stop(Enum):
    """Why a job is stopped from outside."""

    CANCEL = "cancel"
    GIVE_BACK = "give back"
    LOST = "lost"


@dataclass(slots=True)
class _Call:
    """What came of one call of the model; `cause` is a row of `outcome.CAUSES`."""

    cause: str = "cancelled"  # until something else has happened
    seen: str = ""
    retry_after: float | None = None
    counts: dict[str, Any] | None = None
    model: str | None = None
    began: float = 0.0
    first: float | None = None
    ended: float = 0.0


class Execution:
    """One job that this worker holds. `run` once; `stop` at any time, as often as one likes."""

    def __init__(self, context: WorkerContext, partition: int, grant: Grant) -> None:
        self._context = context
        self.partition = partition
        self.grant = grant
        self._claimed = time.monotonic()
        self._stopped: Stop | None = None
        self._task: asyncio.Task[Any] | None = None
        # The call of the model; what is stopped from outside is brought to its deadline.
        self._calling: asyncio.Timeout | None = None
        self._log = log.bind(response_id=grant.response_id, attempt=grant.attempt)

    def stop(self, why: Stop) -> None:
        """Ends the job for this reason; a lost one is past any other, a cancelled one is not
        given back.
        """
        if why is Stop.LOST or self._stopped in (None, Stop.GIVE_BACK):
            self._stopped = why
        if why is Stop.LOST and self._task is not None:
            self._task.cancel()
        else:
            self._hang_up()

    async def run(self) -> None:
        """Returns when the job has ended, waits for another attempt or is no longer ours.

        Raises: RedisTrouble when Redis was away too long: the lease runs out, and a rescue
            takes the job.
        """
        self._task = asyncio.current_task()
        assert self._task is not None  # noqa: S101 - a coroutine runs in a task
        try:
            await self._run()
        except (Fenced, Gone, UnknownResponse) as error:
            self._log.info("lease lost", reason=type(error).__name__)
        except asyncio.CancelledError:
            if self._stopped is not Stop.LOST:
                raise
            self._task.uncancel()  # It was ours, and it has done what it was for.
            self._log.info("lease lost", reason="renewal refused")
        finally:
            self._task = None

    async def _run(self) -> None:
        grant = self.grant
        try:
            job = job_of(grant.response_id, grant.job, self._context.pipe.cipher)
            if grant.cancelled:
                await close(self._context, grant, "cancelled")
            else:
                await self._attempt(job)
        except LogLost as error:
            self._log.warning("log entries lost", reason=str(error))
            await self._again("log_lost")
        except EncryptionKeyMissing as error:
            self._log.error("encryption key missing", key_id=error.key_id)
            if grant.cancelled:
                await close(self._context, grant, "cancelled")
            else:
                await self._again("key_missing", KEY_SECONDS)
        except Undecodable:
            await close(self._context, grant, "undecodable")

    async def _attempt(self, job: Job) -> None:
        grant, context = self.grant, self._context
        opening = await opened(context, grant, job)
        transcript = opening.transcript
        writer = LogWriter(context.pipe, grant.response_id, grant.claim, opening.length)
        async with Flusher(
            writer,
            on_cancel=lambda: self.stop(Stop.CANCEL),
            on_loss=self._hang_up,
            retry_seconds=context.retry_seconds,
            compact=partial(context.compactor.compact, writer, opening.head),
        ) as flusher:
            if transcript.end is not None:
                # Redis kept the last event and lost that the job had ended: it still has.
                await self._end_again(writer, transcript.end)
                return
            # Only a call that the log knows of is made: attempts in the log are calls of the model.
            if opening.events:
                flusher.add(*opening.events)
                await flusher.drain()
            output = Output(
                flusher,
                self._item_id,
                index=transcript.next_index,
                most=context.config.max_output_bytes,
                functions=chat_request.functions(job.params),
            )
            call = _Call(began=time.monotonic())
            await self._ask(job, output, flusher, call)
            call.ended = time.monotonic()
            flusher.check()
            if call.cause == "upstream_busy" and call.retry_after:
                await self._pause(job, call.retry_after)
            if self._stopped is Stop.GIVE_BACK and call.cause == "cancelled":
                await self._give_back()
                return
            verdict = self._verdict(call)
            try:
                await self._apply(verdict, job, output, flusher, call)
            finally:  # nobody waits for a line in a log
                self._note(verdict, call, output.size)

    def _verdict(self, call: _Call) -> Finished | RetryAfter:
        if self._stopped is Stop.CANCEL and CAUSES[call.cause].then is Then.RETRY:
            # It broke while it was being cancelled: nobody waits for another attempt.
            call.cause = "cancelled"
        return decide(
            call.cause,
            failures=self.grant.strikes,
            policy=self._context.policy,
            jitter=random.random(),  # noqa: S311 - jitter
            retry_after=call.retry_after,
        )

    def _note(self, verdict: Finished | RetryAfter, call: _Call, size: int) -> None:
        self._log.log(
            logging.WARNING if CAUSES[call.cause].message else logging.INFO,
            "attempt ended",
            cause=call.cause,
            seen=call.seen,
            bytes=size,
            retry_ms=verdict.delay_ms if isinstance(verdict, RetryAfter) else None,
            **self._timing(call),
        )

    async def _apply(
        self,
        verdict: Finished | RetryAfter,
        job: Job,
        output: Output,
        flusher: Flusher,
        call: _Call,
    ) -> None:
        match verdict:
            case RetryAfter():
                await flusher.drain()
                await self._retry(verdict)
            case Finished():
                counted = self._usage(job, call, output.size)
                last = terminal(
                    job,
                    verdict.status,
                    output=output.end(completed=verdict.status is Status.COMPLETED),
                    attempts=self.grant.attempt,
                    timing=self._timing(call),
                    completed_at=int(time.time()),  # only ever shown
                    usage=counted,
                    error=error_of(verdict),
                    incomplete=verdict.reason,
                    model=call.model,
                )
                retention_ms = self._context.config.shared.retention_ms
                await flusher.finish(
                    verdict.status,
                    last,
                    retention_ms=retention_ms,
                    tokens=counted["total_tokens"] if counted else None,
                    money=self._money(call, counted),
                )
            case _:
                assert_never(verdict)

    async def _ask(self, job: Job, output: Output, flusher: Flusher, call: _Call) -> None:
        """Calls the model; what came of it is in `call`, also when it was ended from outside."""
        if self._stopped is not None:
            return
        calling = self._calling = asyncio.timeout(None)
        try:
            async with calling:
                await self._call(job, output, flusher, call)
        except TimeoutError:
            if not calling.expired():
                raise
        finally:
            self._calling = None

    async def _call(self, job: Job, output: Output, flusher: Flusher, call: _Call) -> None:
        try:
            async with self._context.router.answer(job) as answer:
                call.model = answer.model
                while pieces := await answer.next():
                    for piece in pieces:
                        match piece:
                            case Usage(counts):
                                call.counts = counts
                            case Stopped(reason):
                                call.cause = cause_of(reason)
                                call.seen = "finish_reason"
                            case _:
                                call.first = call.first or time.monotonic()
                                output.take(piece)
                    if flusher.full:
                        await flusher.room()
        except UnsupportedInput:
            call.cause = "unsupported_input"
        except TooLong:
            call.cause = "output_too_long"
        except NotAllowed:
            call.cause, call.seen = "tool_not_allowed", ""
        except Malformed:
            call.cause, call.seen = "upstream_malformed", "Malformed"
        except ModelError as error:
            call.cause, call.seen, call.retry_after = error.code, error.detail, error.retry_after

    def _hang_up(self) -> None:
        """Ends the call of the model, if there is one."""
        if self._calling is not None and not self._calling.expired():
            self._calling.reschedule(asyncio.get_running_loop().time())

    async def _pause(self, job: Job, seconds: float) -> None:
        """Has all workers leave the model alone as long as its provider asks.

        Only where models are told apart and there is no other to ask: else one that is little used
        would stop all.
        """
        routes = self._context.config.routes(job.params.get("model"))
        if self.grant.model and len(routes) == 1:
            policy = self._context.policy
            pause = min(seconds, policy.most_asked_ms / 1000) * random.uniform(1.0, 1.1)  # noqa: S311 - jitter
            await self._context.queue.pause(self.grant.model, pause)
            self._log.warning("model paused", model=self.grant.model, seconds=round(pause, 1))

    async def _give_back(self) -> None:
        self._log.info("job given back")
        grant = self.grant
        await self._context.queue.give_back(grant.response_id, grant.claim, "draining")

    async def _retry(self, verdict: RetryAfter) -> None:
        grant, queue = self.grant, self._context.queue
        await retry(
            lambda: queue.retry(grant.response_id, grant.claim, verdict.delay_ms, verdict.reason),
            seconds=self._context.retry_seconds,
        )

    async def _again(self, cause: str, after: float | None = None) -> None:
        """Tries again later, or ends the response from what its log holds."""
        verdict = decide(
            cause,
            failures=self.grant.strikes,
            policy=self._context.policy,
            jitter=random.random(),  # noqa: S311 - jitter
            retry_after=after,
        )
        if isinstance(verdict, RetryAfter):
            await self._retry(verdict)
        else:
            await close(self._context, self.grant, cause)

    async def fail(self) -> None:
        """After an error that nobody foresaw: another attempt, or the end. Raises: as `run`."""
        with contextlib.suppress(Fenced, Gone, UnknownResponse):
            await self._again("worker_error")

    async def _end_again(self, writer: LogWriter, end: Event) -> None:
        status = Status(end["response"]["status"])
        await retry(
            lambda: writer.finish(
                status, [], retention_ms=self._context.config.shared.retention_ms
            ),
            seconds=self._context.retry_seconds,
        )

    def _usage(self, job: Job, call: _Call, size: int) -> dict[str, Any] | None:
        if call.counts is not None:
            return usage.counted(call.counts)
        if call.seen == "finish_reason" or not size:
            return None
        # The call ended before its provider could count; what it cost so far can be told roughly.
        try:
            arguments = chat_request.completion(job, default_model=self._context.config.model)
        except UnsupportedInput:
            return None
        return usage.estimated(chat_request.characters(arguments), size)

    def _money(self, call: _Call, counted: dict[str, Any] | None) -> float | None:
        """What the call cost, in millionths, by the price of the model that answered."""
        endpoint = self._context.config.endpoints.get(call.model or "")
        if counted is None or endpoint is None or endpoint.price is None:
            return None
        return endpoint.price.of(
            counted["input_tokens"],
            counted["output_tokens"],
            counted["input_tokens_details"]["cached_tokens"],
        )

    def _item_id(self, prefix: str, index: int) -> str:
        grant = self.grant
        return item_id(prefix, grant.response_id, grant.attempt, index, grant.claim)

    def _timing(self, call: _Call) -> dict[str, int]:
        """The receipt, in ms; `first_token_ms` is there if there was a first token."""
        timing = {"queued_ms": self.grant.waited_ms}
        if call.first is not None:
            timing["first_token_ms"] = round(1000 * (call.first - call.began))
        timing["model_ms"] = round(1000 * (call.ended - call.began))
        here = time.monotonic() - self._claimed
        timing["total_ms"] = self.grant.waited_ms + round(1000 * here)
        return timing
