"""Checks that live workers serve every model, and that all of them have the same version."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from jobs.worker_registry import WorkerRegistry, WorkerState
from runtime.version import program_version

from .findings import broken, ok, warning

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from jobs.worker_registry import LiveWorker

    from .findings import Context, Finding


async def live(context: Context) -> AsyncIterator[Finding]:
    """Reads the records that the live workers keep in Redis."""
    config = context.server or context.worker
    if context.pipe is None or config is None:
        return
    found = await WorkerRegistry(context.pipe, config.shared.lease_ms).all()
    for finding in _findings(found, _models(context)):
        yield finding


def _models(context: Context) -> list[str]:
    """Returns the models of the models file, or an empty list without such a file."""
    if context.server is not None:
        return sorted(context.server.catalog.models)
    return sorted(context.worker.endpoints) if context.worker is not None else []


def _findings(workers: list[LiveWorker], models: list[str]) -> Iterator[Finding]:
    if not workers:
        why = "prompts wait in the queue until HOLDLINE_MAX_WAIT_SECONDS, and then fail"
        yield broken("no worker is running", why, "holdline worker", "G1")
        return
    states = Counter(worker.state for worker in workers)
    hosts = len({worker.host for worker in workers})
    shown = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    yield ok(f"workers: {len(workers)} ({shown}); hosts: {hosts}")
    unserved = [model for model in models if not any(worker.serves(model) for worker in workers)]
    if unserved:
        why = "prompts for these models wait until HOLDLINE_MAX_WAIT_SECONDS, and then fail"
        command = "restart the workers with the models file of the servers"
        yield broken(f"no worker serves {', '.join(unserved)}", why, command, "G1")
    if states[WorkerState.PAUSED]:
        reasons = sorted({worker.reason for worker in workers if worker.reason})
        seen = f"paused workers: {states[WorkerState.PAUSED]} ({', '.join(reasons)})"
        yield warning(
            seen,
            "they claim no jobs, so prompts wait longer",
            "curl -s http://127.0.0.1:8080/readyz",
            "G1",
        )
    # The servers keep no record in Redis. They are assumed to have the version of this command.
    versions = Counter(worker.version for worker in workers)
    own = program_version()
    if set(versions) != {own}:
        listed = ", ".join(f"{count} with {name}" for name, count in sorted(versions.items()))
        seen = f"this installation has the version {own}, but the workers have others: {listed}"
        why = "older workers ignore what newer servers add, and leave jobs of newer formats"
        yield warning(
            seen, why, "restart the workers, then the servers, with the same version", "G1"
        )
    else:
        yield ok(f"all workers have the version of this installation, {own}")
