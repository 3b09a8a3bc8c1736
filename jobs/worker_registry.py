"""The registry of live workers in Redis: which workers run, what they serve and what they run.

Each worker process writes its record again and again, and Redis deletes the record of a worker that
has stopped writing. So a dead worker disappears after `record_ms` at the latest, and no process has
to detect its death. Only the clock of Redis decides; the times in a record are ages, which the
reader subtracts from the time at which Redis stored the record.

All records are in partition 0, so that one call lists all workers, whatever their number of
partitions is. The load on this slot is low: a worker sends one command per third of `record_ms`,
so a thousand workers send a hundred commands per second with the default lease.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec

from .names import Partition
from .recent_attempts import RecentAttempts
from .redis.unexpected_reply import decoding
from .scripts import calls

if TYPE_CHECKING:
    from collections.abc import Collection

    from .redis.pipe import Pipe

LEASES_PER_RECORD: Final = 2
# A dead worker is listed for at most a minute, even if leases are long.
MIN_RECORD_MS: Final = 1_000
MAX_RECORD_MS: Final = 60_000
MAX_WORKERS: Final = 10_000
MAX_PAGE: Final = 1_000
# The bounds of one record. They are higher than those of the settings and of the models file.
MAX_RUNNING: Final = 1_000
MAX_MODELS: Final = 1_000
MAX_TEXT: Final = 256


class WorkerState(StrEnum):
    """The states of a live worker.

    A worker that is `draining` claims no more jobs, and one that is `paused` claims none for a
    while. A state that a newer version has added counts as `paused`.
    """

    READY = "ready"
    DRAINING = "draining"
    PAUSED = "paused"

    @classmethod
    def _missing_(cls, _: object) -> WorkerState:
        return cls.PAUSED


class RunningRecord(msgspec.Struct, frozen=True, array_like=True):
    """A running response in the record of a worker. The times are ages in milliseconds.

    `first_token_age_ms` is None before the first token of the attempt.
    """

    response_id: str
    model: str
    attempt: int
    age_ms: int
    first_token_age_ms: int | None = None


class WorkerRecord(msgspec.Struct, frozen=True, array_like=True):
    """The state of a worker, which the worker itself records in Redis.

    `models` is empty if the worker serves every model name. `reason` says why the worker claims no
    or fewer jobs, and is empty otherwise. `recent` counts the attempts that the worker has ended
    lately.
    """

    host: str
    pid: int
    version: str
    age_ms: int
    concurrency: int
    models: tuple[str, ...]
    state: WorkerState
    reason: str
    jobs: int
    running: tuple[RunningRecord, ...]
    recent: tuple[RecentAttempts, ...] = ()


@dataclass(frozen=True, slots=True)
class RunningResponse:
    """A response that a worker runs. Times are in milliseconds of Redis time since 1970.

    `first_token_at` is None before the first token of the attempt.
    """

    response_id: str
    model: str
    attempt: int
    started_at: int
    first_token_at: int | None


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """A live worker. Times are in milliseconds of Redis time since 1970.

    `seen_at` is the time at which the worker wrote its record. `models` is empty if the worker
    serves every model name. `running` is the number of its running jobs, and `responses` describes
    them. `reason` says why the worker claims no or fewer jobs, and is empty otherwise.
    """

    id: str
    host: str
    pid: int
    version: str
    started_at: int
    seen_at: int
    concurrency: int
    models: tuple[str, ...]
    state: WorkerState
    reason: str
    running: int
    responses: tuple[RunningResponse, ...]
    recent: tuple[RecentAttempts, ...] = ()

    def knows(self, model: str) -> bool:
        """Returns True if the worker has an endpoint for this model."""
        return not self.models or model in self.models

    def serves(self, model: str) -> bool:
        """Returns True if the worker claims jobs of this model, unless it is paused."""
        return self.knows(model) and self.state is not WorkerState.DRAINING

    def as_dict(self) -> dict[str, Any]:
        """Returns the worker as a JSON object."""
        return {**asdict(self), "models": list(self.models), "state": str(self.state)}


@dataclass(frozen=True, slots=True)
class WorkerPage:
    """A part of the list of live workers, in the order of their ids.

    `now` is the time of Redis in milliseconds, and `total` the number of all live workers. `after`
    is the id to pass to the next call, or "" if this is the last page.
    """

    now: int
    total: int
    workers: tuple[LiveWorker, ...]
    after: str

    def as_dict(self) -> dict[str, Any]:
        """Returns the page as a JSON object."""
        return {**asdict(self), "workers": [worker.as_dict() for worker in self.workers]}


def new_worker_id() -> str:
    """Returns a new id for a worker process."""
    return secrets.token_hex(8)


class WorkerRegistry:
    """Reads and writes the records of live workers. All methods raise RedisTrouble.

    Only `register` needs the duration of a lease.
    """

    def __init__(self, pipe: Pipe, lease_ms: int = 0) -> None:
        self._pipe = pipe
        self._names = Partition(0)
        wanted = LEASES_PER_RECORD * lease_ms
        self.record_ms = min(max(wanted, MIN_RECORD_MS), MAX_RECORD_MS)
        self._decoded: dict[str, tuple[bytes, LiveWorker | None]] = {}

    async def register(self, worker: str, record: WorkerRecord) -> int:
        """Writes the record of a worker, which expires after `record_ms`.

        Returns the number of live workers. A registry that is full does not store the record, which
        changes nothing but what an operator sees.
        """
        call = calls.register_worker(
            workers_key=self._names.workers,
            record_key=self._names.worker(worker),
            id=worker,
            ttl_ms=self.record_ms,
            max_workers=MAX_WORKERS,
            record=msgspec.msgpack.encode(record),
        )
        return int(await self._pipe.run(call))

    async def unregister(self, worker: str) -> None:
        """Removes the record of a worker that ends."""
        names = self._names
        await self._pipe.run(
            calls.unregister_worker(
                workers_key=names.workers, record_key=names.worker(worker), id=worker
            )
        )

    async def get(self, worker: str) -> LiveWorker | None:
        """Returns a live worker, or None if it is not live."""
        with decoding("the record of a worker"):
            data = await self._pipe.call("GET", self._names.worker(worker))
            return _decoded(worker, data) if data else None

    async def page(self, after: str = "", most: int = MAX_PAGE) -> WorkerPage:
        """Returns up to `most` live workers whose ids come after `after`."""
        call = calls.live_workers(workers_key=self._names.workers, most=MAX_WORKERS)
        with decoding("the list of workers"):
            now, found = await self._pipe.run(call)
            ids = sorted(id_.decode() for id_ in found)
            rest = [id_ for id_ in ids if id_ > after]
            shown = rest[: min(most, MAX_PAGE)]
            workers = await self._read(shown)
        more = shown[-1] if len(shown) < len(rest) else ""
        return WorkerPage(now, len(ids), tuple(workers), more)

    async def all(self) -> list[LiveWorker]:
        """Returns all live workers, of which there are at most `MAX_WORKERS`.

        A worker whose record has not changed since it was last read is the same object as before.
        So a caller that reads often can skip unchanged workers.
        """
        page = await self.page()
        workers = list(page.workers)
        while page.after:
            page = await self.page(page.after)
            workers += page.workers
        return workers

    async def _read(self, ids: Collection[str]) -> list[LiveWorker]:
        if not ids:
            return []
        found = await self._pipe.call("MGET", *(self._names.worker(id_) for id_ in ids))
        if len(self._decoded) > MAX_WORKERS:
            self._decoded.clear()  # forgets the workers that have ended
        workers = (self._worker(id_, data) for id_, data in zip(ids, found, strict=True) if data)
        return [worker for worker in workers if worker is not None]

    def _worker(self, id_: str, data: bytes) -> LiveWorker | None:
        """Decodes a record, unless it is the same as at the last call."""
        known = self._decoded.get(id_)
        if known is None or known[0] != data:
            known = self._decoded[id_] = data, _decoded(id_, data)
        return known[1]


def _decoded(worker: str, data: bytes) -> LiveWorker | None:
    """Decodes a stored record, and ignores fields that a newer version has added.

    Returns None for an invalid record.
    """
    at, _, packed = data.partition(b" ")
    try:
        seen_at, record = int(at), msgspec.msgpack.decode(packed, type=WorkerRecord)
    except (ValueError, msgspec.DecodeError):
        return None
    return LiveWorker(
        id=worker,
        host=record.host,
        pid=record.pid,
        version=record.version,
        started_at=seen_at - record.age_ms,
        seen_at=seen_at,
        concurrency=record.concurrency,
        models=record.models,
        state=record.state,
        reason=record.reason,
        running=record.jobs,
        responses=tuple(_running(seen_at, one) for one in record.running),
        recent=record.recent,
    )


def _running(seen_at: int, one: RunningRecord) -> RunningResponse:
    first = one.first_token_age_ms
    return RunningResponse(
        one.response_id,
        one.model,
        one.attempt,
        seen_at - one.age_ms,
        None if first is None else seen_at - first,
    )
