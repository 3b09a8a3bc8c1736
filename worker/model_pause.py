"""Keeps all workers from calling a model for the time that its provider asked for."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from jobs.record import Job
    from jobs.replies import Grant

    from .context import WorkerContext
    from .model_call import ModelCall

log = structlog.get_logger()


async def pause_model(context: WorkerContext, grant: Grant, job: Job, call: ModelCall) -> None:
    """Pauses the model of a call that has ended, if its provider asked for a pause.

    The model is paused only if each model has its own queue and this model has no fallback. In a
    shared queue, one provider's rate limit would stop the requests to all models.
    """
    seconds = call.retry_after
    if call.cause != "upstream_busy" or not seconds:
        return
    if grant.model and len(context.config.routes(job.params.get("model"))) == 1:
        most = context.policy.max_retry_after_ms / 1000
        pause = min(seconds, most) * random.uniform(1.0, 1.1)  # noqa: S311 - jitter need not be secure
        await context.retry(lambda: context.queue.pause(grant.model, pause))
        log.warning(
            "model paused: its provider sent Retry-After",
            response_id=grant.response_id,
            attempt=grant.attempt,
            model=grant.model,
            seconds=round(pause, 1),
        )
