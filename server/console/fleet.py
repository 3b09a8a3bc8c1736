"""Indexes the records of the live workers, and processes only changed records. No I/O.

A worker writes its record every few seconds, but the console reads all records twice a second. With
a thousand workers and ten thousand running responses, going through all of them at each read would
delay the other clients of the server by tens of milliseconds.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from jobs.recent_attempts import RecentSum
from jobs.worker_registry import WorkerState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobs.worker_registry import LiveWorker, RunningResponse


class Fleet:
    """The live workers, with sums and an index that are updated for changed workers only."""

    def __init__(self) -> None:
        self.workers: list[LiveWorker] = []
        self.states: Counter[WorkerState] = Counter()
        self.slots = 0
        self.recent = RecentSum()
        self._known: dict[str, LiveWorker] = {}
        self._running: Counter[str] = Counter()
        self._answers: dict[str, tuple[LiveWorker, RunningResponse]] = {}
        # Most workers serve the same models, so the workers are counted by their lists of models.
        self._serving: Counter[tuple[str, ...]] = Counter()

    def update(self, live: Iterable[LiveWorker]) -> None:
        """Replaces the live workers. An unchanged worker must be the same object as before."""
        self.workers = list(live)
        now = {worker.id: worker for worker in self.workers}
        for id_, old in list(self._known.items()):
            if now.get(id_) is not old:
                self._count(old, -1)
        for id_, worker in now.items():
            if self._known.get(id_) is not worker:
                self._count(worker, 1)
        self._known = now

    def serving(self, model: str) -> int:
        """Returns the number of live workers that serve a model."""
        return sum(n for models, n in self._serving.items() if not models or model in models)

    def running(self, model: str) -> int:
        """Returns the number of responses of a model that the records of the workers list."""
        return self._running[model]

    def answer(self, response_id: str) -> tuple[LiveWorker, RunningResponse] | None:
        """Returns what the record of a worker says about a running response, or None."""
        return self._answers.get(response_id)

    def _count(self, worker: LiveWorker, sign: int) -> None:
        self.states[worker.state] += sign
        self.slots += sign * worker.concurrency
        if worker.state is not WorkerState.DRAINING:
            self._serving[worker.models] += sign
            if not self._serving[worker.models]:
                del self._serving[worker.models]
        for recent in worker.recent:
            self.recent.add(recent, sign)
        for response in worker.responses:
            id_ = response.response_id
            self._running[response.model] += sign
            if sign > 0:
                self._answers[id_] = worker, response
            elif (known := self._answers.get(id_)) is not None and known[0] is worker:
                del self._answers[id_]
