"""Decides whether each model has a live worker, from the list of workers and the overview."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from .worker_registry import WorkerState

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from .overview import Overview
    from .worker_registry import LiveWorker

# The name under which all models are reported if there is no models file.
ANY_MODEL: Final = "*"

NO_WORKERS: Final = "no_workers"
WORKERS_DRAINING: Final = "workers_draining"
WORKERS_PAUSED: Final = "workers_paused"
MODEL_PAUSED: Final = "model_paused"
REDIS_UNAVAILABLE: Final = "redis_unavailable"


@dataclass(frozen=True, slots=True)
class ModelHealth:
    """The state of one model.

    The model is `ready` if `workers` is not 0: the number of live workers that serve it and do not
    drain. `reason` is None, or says why the model is not ready or why none of its jobs begins now.
    `oldest_seconds` is the time since the submission of the oldest waiting job.
    """

    model: str
    ready: bool
    reason: str | None
    workers: int
    waiting: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class ServiceHealth:
    """The state of the whole service.

    It is `ready` if every model is ready. `reason` is None unless the state could not be read.
    """

    ready: bool
    reason: str | None
    models: tuple[ModelHealth, ...]

    def as_dict(self) -> dict[str, Any]:
        """Returns the state as a JSON object, with its status in words."""
        rest = {"reason": self.reason, "models": [asdict(model) for model in self.models]}
        return {"status": "ready" if self.ready else "not ready", **rest}


UNAVAILABLE: Final = ServiceHealth(ready=False, reason=REDIS_UNAVAILABLE, models=())


def service_health(
    models: Collection[str], workers: Sequence[LiveWorker], overview: Overview
) -> ServiceHealth:
    """Returns the state of the service.

    `models` are the models of the models file. If there are none, all models are reported as one.
    """
    found = tuple(_of_model(model, workers, overview) for model in sorted(models) or [ANY_MODEL])
    return ServiceHealth(all(model.ready for model in found), None, found)


def _of_model(model: str, workers: Sequence[LiveWorker], overview: Overview) -> ModelHealth:
    serving = [worker for worker in workers if model == ANY_MODEL or worker.knows(model)]
    working = [worker for worker in serving if worker.state is not WorkerState.DRAINING]
    reason = None
    if not working:
        reason = WORKERS_DRAINING if serving else NO_WORKERS
    elif all(worker.state is WorkerState.PAUSED for worker in working):
        reason = WORKERS_PAUSED
    elif any(paused.model == model for paused in overview.paused):
        reason = MODEL_PAUSED
    if model == ANY_MODEL:
        waiting, oldest = overview.total.waiting, overview.oldest_seconds
    else:
        waiting, oldest = overview.of_model(model)
    return ModelHealth(model, bool(working), reason, len(working), waiting, oldest)
