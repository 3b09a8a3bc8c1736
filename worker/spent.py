"""Computes what model calls have spent, and estimates it for calls whose results were lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from jobs.checkpoint import decoded

from .continuing import sizes
from .upstream import usage
from .upstream.chat import request as chat_request
from .upstream.chat.messages import UnsupportedInput

if TYPE_CHECKING:
    from jobs.log.response_state import ResponseState
    from jobs.record import Job
    from jobs.replies import Grant

    from .config import Config


class Spent(NamedTuple):
    """The tokens and the cost of the model calls of a response. An unknown value is None.

    `model` is the name of the model that answered, `usage` the token usage in the format of the
    Responses API, and `cost` is in millionths of a unit of the operator's currency.
    """

    model: str | None
    usage: dict[str, Any] | None
    cost: float | None

    @property
    def tokens(self) -> int | None:
        return self.usage["total_tokens"] if self.usage else None


def spent_before(config: Config, grant: Grant, job: Job, state: ResponseState) -> Spent:
    """Returns an estimate of what the calls have spent whose output is in the log of a job.

    Their results were lost with their workers or connections. A call without output may not have
    reached the endpoint, so it counts nothing.
    """
    # A job whose earlier turns are not loaded has only their size.
    before = 0 if job.context else job.context_bytes
    estimates = []
    for size in sizes(state.output, state.continued):
        if size and (counts := estimate(job, size, config.model, before)) is not None:
            estimates.append(counts)
        before += size
    total = usage.total(estimates)
    model = None if total is None else _model(config, grant, job)
    return Spent(model, total, cost_of(config, model, total))


def _model(config: Config, grant: Grant, job: Job) -> str | None:
    """Returns the name of the model that wrote the output, or None if it may be a fallback."""
    if (checkpoint := decoded(grant.checkpoint)) is not None:
        return checkpoint.model
    asked = job.params.get("model")
    routes = config.routes(asked)
    return (routes[0].name or asked or config.model) if len(routes) == 1 else None


def estimate(job: Job, size: int, default_model: str, said: int = 0) -> dict[str, Any] | None:
    """Returns the estimated usage of a call whose output has `size` bytes, or None if unknown.

    `said` is the size in bytes of the text that the model continued, and of other input that the
    job lacks.
    """
    try:
        arguments = chat_request.completion(job, default_model=default_model, drops_tools=True)
    except UnsupportedInput:
        return None
    return usage.estimated(chat_request.characters(arguments) + said, size)


def cost_of(config: Config, model: str | None, counted: dict[str, Any] | None) -> float | None:
    """Returns the cost in millionths of a unit of the operator's currency.

    Returns None if the usage or the price of the model that answered is unknown.
    """
    endpoint = config.endpoints.get(model or "")
    if counted is None or endpoint is None or endpoint.price is None:
        return None
    return endpoint.price.of(
        counted["input_tokens"],
        counted["output_tokens"],
        counted["input_tokens_details"]["cached_tokens"],
    )
