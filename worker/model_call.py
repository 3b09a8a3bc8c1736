"""Makes one model call, passes on its output and records its result."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from jobs.checkpoint import Checkpoint
from runtime import tracing

from .outcome import CAUSES, Then, cause_of
from .output import NotAllowed
from .spans import note_result
from .spent import estimate
from .upstream import usage
from .upstream.chat.messages import UnsupportedInput
from .upstream.deltas import Malformed, Reported, Stopped, TooLong, Usage
from .upstream.model_errors import CONTINUABLE, ModelError, NotKept
from .upstream.summaries import SummaryNeeded

if TYPE_CHECKING:
    from jobs.record import Job

    from .flusher import Flusher
    from .output import Output
    from .upstream.chat.continuation import Continuation
    from .upstream.responses.events import Position
    from .upstream.router import Router, StartedAnswer


# The cause of a call that was not made, because the worker has to compact the conversation first.
SUMMARY_NEEDED: Final = "summary_needed"
# The cause of a call that should have continued an earlier one, but the endpoint no longer has the
# answer.
NOT_KEPT: Final = "not_kept"
# After these causes, the model has read and written nothing.
NO_CALL: Final = (SUMMARY_NEEDED, NOT_KEPT)


class ModelCall:
    """One model call and its result.

    Call `run` once. Another task may call `stop` at any time, even before `run`.

    `cause` is a key of `outcome.CAUSES`, or one of `NO_CALL`. `detail` is "finish_reason" after a
    regular end. After an error, `detail` describes the error, but never contains the provider's
    message. `retry_after` is in seconds. `http_status` is the HTTP status of the error, if it had
    one. `upstream_id` is the endpoint's id of an answer that it may still be generating in the
    background.
    """

    def __init__(self) -> None:
        # The cause is "cancelled" if `stop` ends the call before it has another result.
        self.cause = "cancelled"
        self.detail = ""
        self.retry_after: float | None = None
        self.http_status: int | None = None
        self._resumable = False
        self._is_away = False  # True if the call has failed because the endpoint was away
        self._continuable = False  # True if the model can continue the text
        self.upstream_id: str | None = None
        # The answers in the background that a fallback has replaced.
        self._abandoned: list[tuple[str, str]] = []
        self.model: str | None = None
        self.reported: dict[str, Any] = {}
        self._counts: dict[str, Any] | None = None
        self._began = self._ended = 0.0
        self._first: float | None = None
        self._stopped = False
        # `stop` ends the call by moving this deadline to the present.
        self._deadline: asyncio.Timeout | None = None
        self._steered = False
        self._output: Output | None = None

    def stop(self) -> None:
        """Stops the call and closes its connection."""
        self._stopped = True
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(asyncio.get_running_loop().time())

    def steer(self) -> None:
        """Ends the call with the cause "steered" as soon as its output can be interrupted."""
        self._steered = True
        if self._ended_by_steer():
            self.stop()

    def _ended_by_steer(self) -> bool:
        """Sets the cause if a steer ends the call now. The call's own result takes precedence."""
        interruptible = self._output is None or self._output.interruptible
        if self._steered and interruptible and self.cause == "cancelled" and not self._stopped:
            self.cause = "steered"
            return True
        return False

    async def run(
        self,
        router: Router,
        job: Job,
        output: Output,
        flusher: Flusher,
        begun: Checkpoint | Continuation | None = None,
    ) -> None:
        """Makes the call, or continues an answer that an earlier call has `begun`.

        Returns when the call has succeeded, failed or been stopped.
        """
        self._began = time.monotonic()
        self._output = output
        if begun is not None:
            self.model = output.maker = begun.model
        if isinstance(begun, Checkpoint):
            self.upstream_id = begun.upstream_id
        elif begun is not None:
            self._mark(flusher, begun.checkpoint)
        deadline = self._deadline = asyncio.timeout(None)
        try:
            if not self._stopped:
                async with deadline:
                    await self._read(router, job, output, flusher, begun)
        except TimeoutError:
            if not deadline.expired():
                raise
        finally:
            # The output leads back to the execution, which would be a reference cycle.
            self._deadline = self._output = None
            self._ended = time.monotonic()

    @property
    def first_token(self) -> float | None:
        """The time of the first token, as `time.monotonic()` returns it, or None before it."""
        return self._first

    @property
    def unfinished(self) -> list[tuple[str, str]]:
        """The models and ids of the answers that endpoints may still be generating."""
        last = [(self.model or "", self.upstream_id)] if self.upstream_id is not None else []
        return self._abandoned + last

    @property
    def can_be_continued(self) -> bool:
        """True if another worker can continue this call now."""
        return self._output is not None and bool(self._output.checkpoint())

    @property
    def resumable(self) -> bool:
        """True if another attempt can continue this answer from the checkpoint of the log.

        A call that failed before it had extended a text is not repeated, unless its endpoint was
        unavailable.
        """
        if self._continuable and (self._first is not None or self._is_away):
            return self.cause in CONTINUABLE
        return self._resumable

    def _mark(self, flusher: Flusher, checkpoint: Checkpoint) -> None:
        """Stores with each append that the model can continue the text in the log."""
        self._continuable = True
        mark = checkpoint.encoded()
        flusher.checkpoint = lambda: mark

    async def _read(
        self,
        router: Router,
        job: Job,
        output: Output,
        flusher: Flusher,
        begun: Checkpoint | Continuation | None,
    ) -> None:
        try:
            accepted = partial(self._accepted, output, flusher)
            async with router.answer(job, begun, accepted) as answer:
                try:
                    await self._take(answer, output, flusher)
                except ModelError as error:
                    tracing.current().fail(error.code)
                    raise
                finally:
                    self._note_result()
        except UnsupportedInput:
            self.cause = "unsupported_input"
        except SummaryNeeded:
            self.cause = SUMMARY_NEEDED
        except NotKept as error:
            self.cause, self.detail = NOT_KEPT, error.detail
        except TooLong:
            self.cause = "output_too_long"
        except NotAllowed:
            self.cause, self.detail = "tool_not_allowed", ""
        except Malformed:
            self.cause, self.detail = "upstream_malformed", "Malformed"
        except ModelError as error:
            self.cause, self.detail = error.code, error.detail
            self.retry_after, self.http_status = error.retry_after, error.status
            self._resumable, self._is_away = error.resumable, error.is_away

    async def _take(self, answer: StartedAnswer, output: Output, flusher: Flusher) -> None:
        """Passes the pieces of an answer on to the output."""
        background = answer.background
        if background is not None:
            flusher.checkpoint = output.checkpoint
        elif self.upstream_id is not None:  # a fallback took over
            self._abandoned = self.unfinished
            self.upstream_id = output.position = flusher.checkpoint = None
        self.model = output.maker = answer.model
        if answer.checkpoint is not None:
            self._mark(flusher, answer.checkpoint)
        while pieces := await answer.next():
            if background is not None and background.reread:
                output.expect_same_text()
            for piece in pieces:
                match piece:
                    case Usage(counts):
                        self._counts = usage.merged(self._counts, counts)
                    case Reported(fields):
                        self.reported = fields
                    case Stopped(reason):
                        self.cause = cause_of(reason)
                        self.detail = "finish_reason"
                        self._end_calls(output)
                    case _:
                        self._first = self._first or time.monotonic()
                        output.take(piece)
            if background is not None:
                output.position = background.position
                self.upstream_id = background.unfinished_id
            if self._ended_by_steer():
                return
            if flusher.full:
                await flusher.room()
        self._end_calls(output)  # calls can follow the stop reason

    def _note_result(self) -> None:
        """Adds the result to the span of the call, which ends with the answer."""
        if tracing.is_on():
            since = None if self._first is None else round(1000 * (self._first - self._began))
            used = None if self._counts is None else usage.counted(self._counts)
            note_result(self.cause, used, since, finished=self.detail == "finish_reason")

    def _accepted(self, output: Output, flusher: Flusher, model: str, position: Position) -> None:
        """Stores the first checkpoint, because the model may think for minutes before it writes."""
        self._abandoned = self.unfinished
        self.model = output.maker = model
        self.upstream_id, output.position = position.upstream_id, position
        flusher.store(output.checkpoint)

    def _end_calls(self, output: Output) -> None:
        if CAUSES[self.cause].then is Then.COMPLETED:
            output.end_calls()

    def usage(self, job: Job, size: int, default_model: str) -> dict[str, Any] | None:
        """Returns the usage in the format of the Responses API, or None if it is unknown.

        If the call ended before the provider sent the usage, the result is an estimate. `size` is
        the size of the output in bytes.
        """
        if self._counts is not None:
            return usage.counted(self._counts)
        if self.detail == "finish_reason" or not size:
            return None
        # The provider has not sent the usage, so the tokens so far are estimated.
        return estimate(job, size, default_model)

    @property
    def seconds(self) -> float:
        """The duration of the call, which has ended."""
        return self._ended - self._began

    @property
    def first_seconds(self) -> float | None:
        """The time from the start of the call to its first piece, or None if there was none."""
        return None if self._first is None else self._first - self._began

    @property
    def counted(self) -> dict[str, Any] | None:
        """The usage that the endpoint reported, or None."""
        return None if self._counts is None else usage.counted(self._counts)

    def timing(self) -> dict[str, int]:
        """Returns the times of the call in ms.

        `model_ms` is the duration of the call. `first_token_ms` is the time to the first token, and
        is missing if there was none.
        """
        timing = {}
        if (first := self.first_seconds) is not None:
            timing["first_token_ms"] = round(1000 * first)
        timing["model_ms"] = round(1000 * self.seconds)
        return timing
