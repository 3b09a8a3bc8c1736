"""Makes the model calls of one attempt.

Usually this is one call, whose output goes to the log. If the conversation has to be compacted
first, another call writes its summary. The summary goes to the log only as a sealed compaction
item. Then the answer follows, unless the request asks only for the compacted conversation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from jobs.log.events import output_text
from jobs.summary import (
    COMPACT,
    COMPACTION,
    TRIGGER,
    Summary,
    only_compacts,
    replaced_before,
    sealed,
    shown,
    trigger_of,
)

from .model_call import NO_CALL, SUMMARY_NEEDED, ModelCall
from .outcome import CAUSES, Then
from .output import ITEM_BYTES, Output, json_bytes
from .spent import Spent, cost_of, estimate
from .upstream import summaries, usage
from .upstream.chat.continuation import Continuation
from .upstream.chat.toolbox import Toolbox
from .upstream.deltas import TooLong

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobs.checkpoint import Checkpoint
    from jobs.log.codec import Event
    from jobs.log.items import Place
    from jobs.record import Job

    from .context import WorkerContext
    from .flusher import Flusher
    from .output import Name

Item = dict[str, Any]

# A summary has at most `max_output_bytes` divided by this number. So have the kept user messages.
_SHARE: Final = 4


class Generation:
    """The model calls of one attempt.

    Call `run` once. Another task may call `stop` at any time. `call` is the latest call, whose
    result is the result of the attempt. `job` is the request of that call.
    """

    def __init__(self, context: WorkerContext, name: Name) -> None:
        """`name` returns an item id for a prefix and an output index."""
        self._context = context
        self._name = name
        self._stopped = self._steered = False
        self.call = ModelCall()
        self.job: Job | None = None
        # Each call with its job and the size of its output in bytes. The outputs are not kept,
        # because they refer to the execution, and such a reference cycle would keep the job in
        # memory until the garbage collector runs.
        self._made: list[tuple[ModelCall, Job, int]] = []
        # The unfinished text that the model continues, or None if it begins an answer.
        self._continuation: Continuation | None = None

    def stop(self) -> None:
        """Stops the current call, and prevents further calls."""
        self._stopped = True
        self.call.stop()

    def steer(self) -> None:
        """Ends the call for the answer when its output can be interrupted."""
        self._steered = True
        self.call.steer()

    async def run(
        self,
        job: Job,
        output: Output,
        flusher: Flusher,
        begun: Checkpoint | Continuation | None = None,
    ) -> None:
        """Makes the calls. Returns when all have succeeded, or when one has failed or was stopped.

        If an earlier call has `begun` the answer, continues it.

        Raises: EncryptionKeyMissing, Undecodable.
        """
        seen = self._shown(job)
        self._continuation = begun if isinstance(begun, Continuation) else None
        await self._call(seen, output, flusher, begun)
        if self.call.cause != SUMMARY_NEEDED:
            return
        if (text := await self._summary(seen, flusher)) is None:
            return
        # `POST /v1/responses/compact` returns the user messages before the summary, so the summary
        # does not replace them.
        is_route = bool(job.params.get(COMPACT))
        known = max(
            (one.stop for one in job.turns if one.response_id == job.conversation), default=0
        )
        summary = Summary(text, not is_route, job.conversation, known)
        content = sealed(summary, job.owner, self._context.pipe.cipher)
        try:
            for message in self._kept(job) if is_route else ():
                output.put("msg", message)
            output.put("cmp", {"type": COMPACTION, "encrypted_content": content})
        except TooLong:
            self.call.cause = "output_too_long"
            return
        if not only_compacts(job.params):
            await self._call(summaries.continued(seen, text), output, flusher)

    async def _call(
        self,
        job: Job,
        output: Output,
        flusher: Flusher,
        begun: Checkpoint | Continuation | None = None,
    ) -> None:
        self.job = job
        before = output.size if isinstance(begun, Continuation) else 0
        if self._made:
            self.call = ModelCall()
            if self._stopped:
                self.call.stop()
            if self._steered:
                self.call.steer()
        try:
            await self.call.run(self._context.router, job, output, flusher, begun)
        finally:
            if self.call.cause not in NO_CALL:
                self._context.metrics.called(job.params.get("model"), self.call)
        self._made.append((self.call, job, output.size - before))

    async def _summary(self, job: Job, flusher: Flusher) -> str | None:
        """Returns the summary of all items of a job.

        Returns None if the call failed or was stopped, or if the model wrote no complete summary.
        """
        asked = summaries.request(job)
        most = min(summaries.MAX_SUMMARY_BYTES, self._limit)
        written = Output(_Discarded(), self._name, index=0, most=most, toolbox=Toolbox.of(asked))
        await self._call(asked, written, flusher)
        flusher.check()
        then = CAUSES[self.call.cause].then
        if then not in (Then.COMPLETED, Then.INCOMPLETE):
            return None
        items = written.end(completed=then is Then.COMPLETED)
        text = output_text(items).strip()
        if then is Then.INCOMPLETE or not text:
            self.call.cause = "compaction_failed"
            return None
        return text

    def _shown(self, job: Job) -> Job:
        """Returns the job with the items that a model gets."""
        items = _items(job)
        if not any(item.get("type") in (COMPACTION, TRIGGER) for item in items):
            return job
        asked = shown(items, job.owner, self._context.pipe.cipher) + trigger_of(job.params)
        return replace(job, context=[], params={**job.params, "input": asked})

    def _kept(self, job: Job) -> list[Item]:
        """Returns the user messages that a compacted conversation keeps unchanged."""
        items = _items(job)
        start = replaced_before(items, job.owner, self._context.pipe.cipher)
        most = min(summaries.MAX_KEPT_BYTES, self._limit)
        return summaries.kept(items[start:], most, lambda item: ITEM_BYTES + json_bytes(item))

    @property
    def _limit(self) -> int:
        return self._context.config.max_output_bytes // _SHARE

    # The result of all calls

    def spent(self, default_model: str) -> Spent:
        """Returns what all calls together have spent."""
        used = self._used(default_model)
        costs = [cost_of(self._context.config, call.model, counts) for call, counts in used]
        known = [cost for cost in costs if cost is not None]
        return Spent(
            self.call.model,
            usage.total([counts for _, counts in used if counts is not None]),
            sum(known) if known else None,
        )

    def _used(self, default_model: str) -> list[tuple[ModelCall, dict[str, Any] | None]]:
        made = [
            (call, call.usage(job, size, default_model))
            for call, job, size in self._made
            if call.cause not in NO_CALL
        ]
        return [*self._earlier(default_model), *made]

    def _earlier(self, default_model: str) -> Iterator[tuple[ModelCall, dict[str, Any] | None]]:
        """Yields the estimated usage of each earlier call whose text the last call continued.

        The endpoint's own figures were lost with the workers or connections of these calls. All
        calls are to the same model. A call without output may not have reached the endpoint.
        """
        call, text = self.call, self._continuation
        if text is None or self.job is None or call.cause in NO_CALL:
            return
        said = 0
        for size in filter(None, text.earlier):
            yield call, estimate(self.job, size, default_model, said)
            said += size


class _Discarded:
    """A sink for the output of a call whose text becomes a summary."""

    def add(self, *events: Event) -> None:
        pass

    def add_text(self, place: Place, text: str, logprobs: list[Any] | None = None) -> None:
        pass


def _items(job: Job) -> list[Item]:
    asked = job.params.get("input")
    return [*job.context, *(asked if isinstance(asked, list) else ())]
