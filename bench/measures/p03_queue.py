"""P3: submits, claims and finishes empty jobs with the real Lua scripts and one worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from bench.figures import Bound, Measure, Play, Round, Sample
from bench.processes import Cpu, Process
from bench.rig import Rig

PYTHON = ("arq", "saq", "taskiq")
OURS, RATE = "holdline", "jobs per worker CPU second"


@asynccontextmanager
async def contest(rig: Rig, size: Mapping[str, Any]) -> AsyncIterator[Mapping[str, Play]]:
    """Lets each worker fill its queue, and measures its CPU time while it empties the queue."""
    jobs = size["jobs"]
    plays = {OURS: partial(_play, rig, rig.ours("noop"), jobs)}
    if bullmq := await rig.node("bullmq_queue", package="bullmq"):
        plays["BullMQ"] = partial(_play, rig, bullmq, jobs)
    for name in PYTHON:
        if peer := await rig.python(f"{name}_queue", package=name):
            plays[name] = partial(_play, rig, peer, max(jobs // size["peer divisor"], 100))
    yield plays


async def _play(rig: Rig, worker: Process, jobs: int) -> Sample:
    await rig.forget_commands()
    await worker.ask(f"fill {jobs}")
    cpu = Cpu(worker, rig.redis)
    await worker.ask(f"drain {jobs}")
    taken = cpu.taken()
    return {
        RATE: jobs / taken[worker.name],
        "worker": taken[worker.name] / jobs * 1e6,
        "redis": taken["redis"] / jobs * 1e6,
        "commands": await rig.commands() / jobs,
    }


def _of_python(one: Round) -> float:
    """Returns Holdline's rate divided by the rate of the fastest Python peer.

    Raises: KeyError if no Python peer is installed.
    """
    rates = [one[name][RATE] for name in PYTHON if name in one]
    if not rates:
        raise KeyError(PYTHON[0])
    return one[OURS][RATE] / max(rates)


MEASURE = Measure(
    name="P3",
    title="Queue: jobs that do nothing, processed by one worker process, 100 at a time",
    sizes={
        "full": {"jobs": 10_000, "peer divisor": 10},
        "quick": {"jobs": 5_000, "peer divisor": 10},
    },
    units={RATE: "", "worker": "µs per job", "redis": "µs per job", "commands": "per job"},
    bounds=(
        Bound(
            "jobs per CPU second of a worker: Holdline divided by BullMQ",
            lambda one: one[OURS][RATE] / one["BullMQ"][RATE],
            least=6,
        ),
        Bound(
            "jobs per CPU second of a worker: "
            "Holdline divided by the fastest of arq, saq and taskiq",
            _of_python,
            least=25,
        ),
    ),
    open=contest,
)
