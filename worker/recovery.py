"""Gets the output of an attempt with the least repetition after a lost worker or connection.

An attempt takes the first of these steps that is possible:

    read the rest       The endpoint generates the answer in the background, and sends the rest of
                        it. The model is not called again.
    continue the text   The model that began the text is called again, and continues it. The event
                        `holdline:continued` announces the attempt.
    restart             The model or a fallback is called again, and the output so far is void. The
                        event `holdline:restarted` announces the attempt. The first attempt of a
                        response takes this step too, without an event.

The policy for the death of a worker, which `jobs.worker_death` defines, limits the steps: `restart`
allows only the last step. After a worker has stopped, `fail` allows only the first. Some outputs
need no further call: the response then ends with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from jobs.log.events import continued
from jobs.worker_death import CONTINUE, FAIL, RESTART

from .continuing import continuation
from .model_call import NOT_KEPT
from .opening import begun_again
from .output import Output
from .upstream.chat.toolbox import Toolbox

if TYPE_CHECKING:
    from jobs.checkpoint import Checkpoint
    from jobs.log.items import Item
    from jobs.record import Job
    from jobs.replies import Grant

    from .context import WorkerContext
    from .flusher import Flusher
    from .generation import Generation
    from .opening import Opening
    from .output import Name
    from .upstream.chat.continuation import Continuation

log = structlog.get_logger()


class Recovery:
    """Gets the output of one attempt. Call `output` once.

    `grant` is the claimed job, with the number of the current attempt. After `output` has returned
    None, `ending` has the cause and the output with which the response ends. `continuations` is the
    number of attempts that continued the text of the output.
    """

    def __init__(
        self,
        context: WorkerContext,
        generation: Generation,
        name: Name,
        grant: Grant,
        job: Job,
        opening: Opening,
        flusher: Flusher,
    ) -> None:
        self.grant = grant
        self.ending: tuple[str, list[Item]] = "stop", []
        self.continuations = len(opening.state.continued)
        self._context = context
        self._generation = generation
        self._name = name
        self._job = job
        self._opening = opening
        self._flusher = flusher
        self._policy = context.config.on_worker_death(job.params)
        self._abandoned: Checkpoint | None = None  # a background answer that nobody reads
        self._is_counted = False  # True if the attempt is counted, although there is a checkpoint
        self._is_spent = False  # True if the text has reached the limit of output tokens

    async def output(self) -> Output | None:
        """Returns the output of the attempt, or None if the response ends without another call."""
        has_checkpoint, checkpoint = bool(self.grant.checkpoint), self._opening.checkpoint
        if has_checkpoint:
            if (output := await self._continue(checkpoint)) is not None:
                return output
            if checkpoint is not None and checkpoint.upstream_id:
                self._abandoned = checkpoint
            self._opening = begun_again(self._opening, self._next, self._job)
        found = self._opening.ending(
            steered=self.grant.steers > 0, fails=self._policy == FAIL, spent=self._is_spent
        )
        if found is not None:
            self.ending = found
            self._flusher.add(*self._opening.closing)
            return None
        if has_checkpoint:
            await self._count(keeps_checkpoint=False)
            await self.abandon()
        return await self._restart()

    async def abandon(self) -> None:
        """Cancels an answer in the background that no worker reads, because it may not have ended.

        Call this method only while this worker certainly holds the job, for example after a change
        of the job. Otherwise it could cancel an answer that another worker reads.
        """
        if (answer := self._abandoned) is not None:
            await self._context.router.cancel(answer.model, answer.upstream_id)

    # The steps

    async def _continue(self, checkpoint: Checkpoint | None) -> Output | None:
        """Continues the answer of an earlier call, or returns None if that is impossible.

        If Redis has lost entries that a client has received, other entries would take their place
        in the same items, and the client could not recognize them when it resumes. Another attempt
        has other item ids.
        """
        if checkpoint is None or self.grant.may_lack_entries:
            return None
        step = self._read_rest if checkpoint.upstream_id else self._continue_text
        return await step(checkpoint)

    async def _read_rest(self, checkpoint: Checkpoint) -> Output | None:
        if self._policy == RESTART:
            return None
        return await self._continued(checkpoint, checkpoint)

    async def _continue_text(self, checkpoint: Checkpoint) -> Output | None:
        if self._policy != CONTINUE or self.grant.steers:
            return None
        found = continuation(self._job, self._opening.state, checkpoint)
        if found is None:
            return None
        begun, place = found
        self._is_spent = _left(self._job, begun) < 1
        if self._is_spent:
            return None
        await self._count(keeps_checkpoint=True)
        # The attempt is appended to the log before the model is called, like a restart.
        encoded = checkpoint.encoded()
        self._flusher.checkpoint = lambda: encoded
        self._flusher.add(
            continued(self._job, self.grant.attempt, self.grant.reason, place, len(begun.text))
        )
        await self._flusher.drain()
        self.continuations += 1
        return await self._continued(checkpoint, begun)

    async def _restart(self) -> Output:
        opening, flusher = self._opening, self._flusher
        self.continuations = 0
        flusher.checkpoint = None
        # The attempt is appended to the log before the model is called, so that the log shows
        # every call.
        if opening.closing or opening.events:
            flusher.add(*opening.closing, *opening.events)
            await flusher.drain()
        if self.grant.attempt > 1:
            self._recovered("restart")
        output = self._output()
        await self._generation.run(self._job, output, flusher)
        flusher.check()
        return output

    async def _continued(
        self, checkpoint: Checkpoint, begun: Checkpoint | Continuation
    ) -> Output | None:
        """Gets the rest of the answer, and returns the output with it.

        Returns None if the endpoint does not continue the answer.
        """
        output = self._output()
        output.restore(checkpoint, self._opening.state)
        await self._generation.run(self._job, output, self._flusher, begun)
        self._flusher.check()
        call = self._generation.call
        if call.cause != NOT_KEPT:
            self._recovered("reattach" if begun is checkpoint else "continue")
            return output
        log.warning(
            "endpoint does not continue the answer: calling the model again",
            response_id=self._job.id,
            model=checkpoint.model,
            error=call.detail,
        )
        return None

    def _output(self) -> Output:
        state = self._opening.state
        return Output(
            self._flusher,
            self._name,
            index=state.next_index,
            most=self._context.config.max_output_bytes,
            toolbox=Toolbox.of(self._job),
            used=state.call_ids,
        )

    def _recovered(self, step: str) -> None:
        self._context.metrics.recovered(self._job.params.get("model"), step)

    # Counting the attempts

    @property
    def _next(self) -> Grant:
        """The grant with the number of the next attempt. A claim with a checkpoint counts none."""
        return self.grant._replace(attempt=self.grant.attempt + (not self._is_counted))

    async def _count(self, *, keeps_checkpoint: bool) -> None:
        """Counts the attempt, because the model is called again."""
        self.grant = grant = self._next
        self._is_counted = True
        leases = self._context.queue.leases
        await self._context.retry(
            lambda: leases.begin_again(
                grant.response_id, grant.claim, grant.attempt, keeps_checkpoint=keeps_checkpoint
            )
        )


def _left(job: Job, begun: Continuation) -> int:
    """Returns an estimate of the output tokens that the request leaves for the rest of the text."""
    limit = job.params.get("max_output_tokens")
    return 1 if limit is None else limit - begun.tokens
