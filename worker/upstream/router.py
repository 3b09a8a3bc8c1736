"""Routes each job to the model that it names, or to one of the fallbacks of that model.

The router calls the model, and then its fallbacks in order, until one of them begins to answer.
Before the first piece of output, another model can take over because the client has received
nothing. After the first piece, a failure of the model fails the whole attempt.

For a while after a failure, the router calls the failed model last. Otherwise a hundred jobs might
each wait for the timeout of the same model.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Final, Self

import structlog

from jobs.checkpoint import Checkpoint
from jobs.config.models import RESPONSES
from jobs.summary import COMPACT
from jobs.tokens import COUNT
from jobs.worker_death import CONTINUE
from worker.metrics import WorkerMetrics
from worker.spans import call_span

from .arguments import ArgumentBuilder, limit_name
from .background import BackgroundAnswer
from .chat.continuation import Continuation, ContinuedAnswer, continued
from .chat.messages import UnsupportedInput
from .deltas import Answer, WholeAnswer
from .model_errors import Broken, Busy, ModelError, NoSuchRoute, NotKept, Refused
from .responses.events import NOT_CALLED, Position
from .stream import UpstreamModel
from .summaries import SummaryNeeded, check_refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from jobs.record import Job
    from runtime.metrics import LabelValues
    from worker.config import Config, Endpoint

    from .deltas import Delta

    # A function that gets the name of a model and its endpoint's first position.
    OnAccepted = Callable[[str, Position], None]

log = structlog.get_logger()

# The failures after which the router tries a fallback: the model is unavailable or busy, refuses
# access to the worker, or does not begin to answer.
FALLBACK_CODES: Final = frozenset(
    {
        "upstream_busy",
        "upstream_error",
        "upstream_key_unavailable",
        "upstream_malformed",
        "upstream_model_not_found",
        "upstream_timeout",
        "upstream_truncated",
        "upstream_unauthorized",
        "upstream_unavailable",
    }
)
COOLDOWN_SECONDS: Final = 10.0


class StartedAnswer:
    """An answer whose first pieces have arrived.

    `model` is the name of the model that gives the answer. `background` is the answer if the
    endpoint generates it in the background. `checkpoint` is set if the model can continue the text
    of this answer, and the response's policy for the death of its worker allows it.
    """

    def __init__(
        self, answer: Answer, first: list[Delta], model: str, checkpoint: Checkpoint | None = None
    ) -> None:
        self._answer = answer
        self._first = first
        self.model = model
        self.checkpoint = checkpoint
        self.background = answer if isinstance(answer, BackgroundAnswer) else None

    async def next(self) -> list[Delta]:
        """Returns the next pieces of the answer, or an empty list after the last piece."""
        if self._first:
            first, self._first = self._first, []
            return first
        return await self._answer.next()


class Router:
    """Routes jobs to the configured models.

    Use it as an async context manager, in the event loop that makes the calls.
    """

    def __init__(self, config: Config, metrics: WorkerMetrics | None = None) -> None:
        self._config = config
        self._metrics = metrics or WorkerMetrics()
        endpoints = [config.single] if config.single else list(config.endpoints.values())
        self._models = {one.name: UpstreamModel(one, config.max_output_bytes) for one in endpoints}
        self._slots = {one.name: asyncio.Semaphore(one.concurrency) for one in endpoints}
        self._cooling_until: dict[str, float] = {}
        self._borrowed: dict[str, int] = {}
        self._arguments = ArgumentBuilder(config)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        for model in self._models.values():
            await self._stack.enter_async_context(model)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def update_metrics(self) -> None:
        """Updates the metrics of the models' API keys."""
        metrics = self._metrics
        expiries: dict[LabelValues, float] = {}
        for name, model in self._models.items():
            key = model.credential
            if key.expires_at is not None:
                expiries[name,] = key.expires_at
            if name:  # the only endpoint of a worker without a models file has a fixed key
                metrics.key_failures.labels(name).count = key.failures
        metrics.key_expiry.replace(expiries)

    def borrowed(self, name: str) -> int:
        """Returns the number of running calls in which this model is another model's fallback."""
        return self._borrowed.get(name, 0)

    @contextlib.asynccontextmanager
    async def answer(
        self,
        job: Job,
        begun: Checkpoint | Continuation | None = None,
        on_accepted: OnAccepted | None = None,
    ) -> AsyncIterator[StartedAnswer]:
        """Yields the answer of the job's model, or of the first fallback that begins to answer.

        If an earlier call has `begun` the answer, yields the rest of it. `on_accepted` is called
        when an endpoint has accepted to generate an answer in the background. If that endpoint
        fails before the answer begins, a fallback may still take over.

        Raises: NotKept if that answer cannot be continued; UnsupportedInput; SummaryNeeded;
        ModelError, which the methods of the answer raise too.
        """
        routes = self._config.routes(job.params.get("model"))
        if not routes:
            raise Refused("upstream_model_not_found", "the model is not in HOLDLINE_MODELS")
        deadline = asyncio.get_running_loop().time() + self._config.total
        async with contextlib.AsyncExitStack() as stack:
            if begun is None:
                yield await self._first(job, routes, deadline, stack, on_accepted)
                return
            endpoint = self._config.endpoints.get(begun.model)
            if isinstance(begun, Continuation):
                if endpoint is None or endpoint.checkpoint != begun.checkpoint:
                    raise NotKept("the model can no longer continue the text")
                yield await self._continued(job, endpoint, deadline, stack, begun)
                return
            if endpoint is None or not endpoint.background:
                raise NotKept("the model no longer generates in the background")
            yield await self._start(job, endpoint, deadline, stack, begun)

    async def cancel(self, model: str, upstream_id: str) -> None:
        """Ends the generation of an answer in the background. Errors are ignored."""
        if (upstream := self._models.get(model)) is not None:
            await upstream.cancel(upstream_id)

    async def try_model(self, job: Job, endpoint: Endpoint) -> None:
        """Waits until this model has begun to answer the job. No fallback is tried.

        Raises: ModelError, UnsupportedInput.
        """
        deadline = asyncio.get_running_loop().time() + self._config.total
        async with contextlib.AsyncExitStack() as attempt:
            await self._start(job, endpoint, deadline, attempt)

    async def _first(
        self,
        job: Job,
        routes: list[Endpoint],
        deadline: float,
        stack: contextlib.AsyncExitStack,
        on_accepted: OnAccepted | None,
    ) -> StartedAnswer:
        """Returns the answer of the first model that begins to answer.

        Closing `stack` closes the answer.

        The router skips an endpoint whose API cannot express the request.
        """
        errors: list[ModelError] = []
        unsupported: list[UnsupportedInput] = []
        for endpoint in sorted(routes, key=self._is_cooling):
            try:
                async with contextlib.AsyncExitStack() as attempt:
                    if endpoint is not routes[0]:
                        attempt.enter_context(self._borrow(endpoint.name))
                    started = await self._start(
                        job, endpoint, deadline, attempt, on_accepted=on_accepted
                    )
                    stack.push_async_callback(attempt.pop_all().aclose)
                    return started
            except UnsupportedInput as error:
                unsupported.append(error)
            except ModelError as error:
                if error.code not in FALLBACK_CODES:
                    raise
                errors.append(error)
                if len(routes) > 1:
                    self._cool_down(endpoint.name)
                    self._metrics.failed_over(endpoint.name, error.code)
                    log.warning(
                        "model call failed: trying the next fallback, if any",
                        response_id=job.id,
                        model=endpoint.name,
                        cause=error.code,
                        error=error.detail,
                    )
        # If the error of one model is temporary, that error is raised. It allows another attempt,
        # even if other models failed permanently.
        temporary = [one for one in errors if isinstance(one, Broken | Busy)]
        try:
            raise (temporary or errors or unsupported)[0]
        # Breaks a reference cycle: the traceback of the raised error refers to this frame.
        finally:
            temporary.clear()
            errors.clear()
            unsupported.clear()

    async def _continued(
        self,
        job: Job,
        endpoint: Endpoint,
        deadline: float,
        stack: contextlib.AsyncExitStack,
        begun: Continuation,
    ) -> StartedAnswer:
        """Returns the rest of an answer whose model continues the text.

        Raises: NotKept if the endpoint refuses the request, or is unavailable and the job has
        other models; ModelError.
        """
        others = len(self._config.routes(job.params.get("model"))) > 1
        try:
            return await self._start(job, endpoint, deadline, stack, begun)
        except (UnsupportedInput, SummaryNeeded) as error:
            raise NotKept(type(error).__name__) from None
        except ModelError as error:
            if error.refuses_to_continue or (others and error.code in FALLBACK_CODES):
                raise NotKept(error.detail) from None
            raise

    async def _start(
        self,
        job: Job,
        endpoint: Endpoint,
        deadline: float,
        attempt: contextlib.AsyncExitStack,
        begun: Checkpoint | Continuation | None = None,
        on_accepted: OnAccepted | None = None,
    ) -> StartedAnswer:
        if job.params.get(COUNT):
            return await self._count(job, endpoint, deadline)
        arguments = self._arguments.for_answer(job, endpoint)
        fixed: frozenset[str] = frozenset()
        if isinstance(begun, Continuation):
            assert endpoint.continues is not None  # noqa: S101 - `answer` checks it
            limit = limit_name(endpoint)
            arguments, fixed = continued(arguments, begun, endpoint.continues, limit)
        attempt.enter_context(call_span(job, endpoint, arguments))
        slot = self._slots[endpoint.name]
        if slot.locked():
            try:
                latest = min(
                    asyncio.get_running_loop().time() + endpoint.first_token_seconds, deadline
                )
                async with asyncio.timeout_at(latest):
                    await slot.acquire()
            except TimeoutError:
                raise Busy("upstream_busy", "the model has reached its concurrency limit") from None
        else:
            await slot.acquire()  # a slot is free, so `acquire` does not wait
        attempt.callback(slot.release)
        model = self._models[endpoint.name]
        while True:
            try:
                async with contextlib.AsyncExitStack() as call:
                    answer: Answer
                    if job.params.get(COMPACT):
                        answer = await model.compact(arguments, deadline)
                    elif isinstance(begun, Checkpoint):
                        after = Position(begun.upstream_id, begun.sequence_number)
                        answer = await call.enter_async_context(
                            model.background_answer(after, deadline)
                        )
                    elif arguments.get("background"):
                        accepted = partial(on_accepted, endpoint.name) if on_accepted else None
                        answer = await call.enter_async_context(
                            model.background_answer(arguments, deadline, accepted)
                        )
                    else:
                        answer = await call.enter_async_context(model.answer(arguments, deadline))
                    if isinstance(begun, Continuation):
                        answer = ContinuedAnswer(answer, begun)
                    first = await answer.next()
                    attempt.push_async_callback(call.pop_all().aclose)
                    name = endpoint.name or arguments["model"]
                    continues = self._config.on_worker_death(job.params) == CONTINUE
                    checkpoint = endpoint.checkpoint if continues else None
                    return StartedAnswer(answer, first, name, checkpoint)
            except NoSuchRoute:
                raise SummaryNeeded from None
            except Refused as error:
                adapted = self._arguments.adapt(job, endpoint, arguments, error, fixed)
                check_refusal(job, error)
                if not adapted:
                    raise

    async def _count(self, job: Job, endpoint: Endpoint, deadline: float) -> StartedAnswer:
        """Counts the input tokens, which is no call of the model and needs no slot.

        Without a number in the answer, the endpoint cannot count.
        """
        answer = WholeAnswer([*NOT_CALLED])
        if endpoint.api == RESPONSES:
            arguments = self._arguments.for_count(job, endpoint)
            with contextlib.suppress(NoSuchRoute):
                answer = await self._models[endpoint.name].count(arguments, deadline)
        return StartedAnswer(answer, [], endpoint.name or self._arguments.model(job, endpoint))

    def _is_cooling(self, endpoint: Endpoint) -> bool:
        return self._cooling_until.get(endpoint.name, 0.0) > asyncio.get_running_loop().time()

    def _cool_down(self, name: str) -> None:
        self._cooling_until[name] = asyncio.get_running_loop().time() + COOLDOWN_SECONDS

    @contextlib.contextmanager
    def _borrow(self, name: str) -> Iterator[None]:
        self._borrowed[name] = self.borrowed(name) + 1
        try:
            yield
        finally:
            self._borrowed[name] -= 1
