"""All models of a worker: which of them answers a job.

A job names a model; that one has fallbacks. They are asked one after the other until one of them
has begun: before its first piece nothing was said that another model would have to take back. From
then on the answer is that model's, and what breaks is another attempt.

A model that just failed is asked last for a while: else each of a hundred jobs would wait for the
same timeout.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final, Self

import structlog

from jobs.models import RESPONSES

from . import chat_request, responses_request
from .stream import Answer, Broken, Busy, Model, ModelError, Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from jobs.record import Job
    from worker.config import Config, Endpoint

    from .chat_chunks import TextDelta

log = structlog.get_logger()

# What another model may do better: this one is down, full, refuses us, or does not begin.
FALL_BACK: Final = frozenset(
    {
        "upstream_busy",
        "upstream_error",
        "upstream_malformed",
        "upstream_model_not_found",
        "upstream_timeout",
        "upstream_truncated",
        "upstream_unauthorized",
        "upstream_unavailable",
    }
)
REST_SECONDS: Final = 10.0


class Begun:
    """An answer whose first pieces are there. `model` is the name of the one that gives it."""

    def __init__(self, answer: Answer, first: list[TextDelta], model: str) -> None:
        self._answer = answer
        self._first = first
        self.model = model

    async def next(self) -> list[TextDelta]:
        """As `Answer.next`."""
        if self._first:
            first, self._first = self._first, []
            return first
        return await self._answer.next()


class Models:
    """Use it as an async context manager, in the loop that uses it."""

    def __init__(self, config: Config) -> None:
        self._config = config
        endpoints = [config.single] if config.single else list(config.endpoints.values())
        self._models = {one.name: Model(one, config.max_output_bytes) for one in endpoints}
        self._rooms = {one.name: asyncio.Semaphore(one.concurrency) for one in endpoints}
        self._resting: dict[str, float] = {}
        self._lent: dict[str, int] = {}
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        for model in self._models.values():
            await self._stack.enter_async_context(model)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def lent(self, name: str) -> int:
        """How many calls of this model are made for jobs that named another."""
        return self._lent.get(name, 0)

    @contextlib.asynccontextmanager
    async def answer(self, job: Job) -> AsyncIterator[Begun]:
        """The answer of the job's model, or of its first fallback that begins one.

        Raises: ModelError, also from within; UnsupportedInput.
        """
        asked = self._config.routes(job.params.get("model"))
        if not asked:
            raise Refused("upstream_model_not_found", "not in HOLDLINE_MODELS")
        until = asyncio.get_running_loop().time() + self._config.total
        async with contextlib.AsyncExitStack() as stack:
            yield await self._first(job, asked, until, stack)

    async def _first(
        self, job: Job, asked: list[Endpoint], until: float, stack: contextlib.AsyncExitStack
    ) -> Begun:
        """The first answer that begins; it is closed with the stack."""
        failed: list[ModelError] = []
        for endpoint in sorted(asked, key=self._rests):
            try:
                async with contextlib.AsyncExitStack() as trial:
                    if endpoint is not asked[0]:
                        trial.enter_context(self._lend(endpoint.name))
                    begun = await self._begin(job, endpoint, until, trial)
                    stack.push_async_callback(trial.pop_all().aclose)
                    return begun
            except ModelError as error:
                failed.append(error)
                if error.code not in FALL_BACK:
                    raise
                if len(asked) > 1:
                    self._rest(endpoint.name)
                    log.warning(
                        "model passed over",
                        response=job.id,
                        model=endpoint.name,
                        cause=error.code,
                        seen=error.seen,
                    )
        # What may pass is worth another attempt, even if another of them never will.
        passing = [one for one in failed if isinstance(one, Broken | Busy)]
        raise (passing or failed)[0]

    async def _begin(
        self, job: Job, endpoint: Endpoint, until: float, trial: contextlib.AsyncExitStack
    ) -> Begun:
        arguments = self._arguments(job, endpoint)
        room = self._rooms[endpoint.name]
        if room.locked():
            try:
                latest = min(asyncio.get_running_loop().time() + endpoint.first_token, until)
                async with asyncio.timeout_at(latest):
                    await room.acquire()
            except TimeoutError:
                raise Busy("upstream_busy", "no room") from None
        else:
            await room.acquire()  # at once
        trial.callback(room.release)
        model = self._models[endpoint.name]
        while True:
            try:
                answer = await trial.enter_async_context(model.answer(arguments, until))
                return Begun(answer, await answer.next(), endpoint.name or arguments["model"])
            except Refused as error:
                if error.code != "upstream_input_too_long" or not chat_request.shorten(
                    job, arguments
                ):
                    raise

    def _arguments(self, job: Job, endpoint: Endpoint) -> dict[str, Any]:
        """The job's request in the endpoint's dialect. Raises: UnsupportedInput."""
        model = endpoint.upstream or job.params.get("model") or self._config.model
        if endpoint.dialect == RESPONSES:
            return responses_request.request(job, model=model)
        return chat_request.completion(job, default_model=model, limit=endpoint.limit_name) | {
            "model": model
        }

    def _rests(self, endpoint: Endpoint) -> bool:
        return self._resting.get(endpoint.name, 0.0) > asyncio.get_running_loop().time()

    def _rest(self, name: str) -> None:
        self._resting[name] = asyncio.get_running_loop().time() + REST_SECONDS

    @contextlib.contextmanager
    def _lend(self, name: str) -> Iterator[None]:
        self._lent[name] = self.lent(name) + 1
        try:
            yield
        finally:
            self._lent[name] -= 1
