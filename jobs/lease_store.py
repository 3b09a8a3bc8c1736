"""Assigns jobs to workers under leases. Each operation runs one Lua script in Redis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .checkpoint import Checkpoint, decoded
from .log.log import MAX_NOTIFICATION_BYTES
from .names import Partition, names_of, script_keys
from .replies import Claimed, check_held, granted
from .scripts import calls

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .record import SharedSettings
    from .redis.pipe import Pipe
    from .replies import Grant

RESCUE_LIMIT = 100
MAX_JOB_BYTES = 1 << 26  # default maximum size of all jobs in the reply to one claim


@dataclass(frozen=True, slots=True)
class RescuePace:
    """When a rescue of a partition recovers jobs. All times are in milliseconds.

    In each `every_ms`, only the first rescue does. If no worker has tried to rescue for more than
    `max_gap_ms`, the workers could not reach Redis, and had no chance to renew their leases either.
    No job is then recovered for `grace_ms`.
    """

    every_ms: int = 0
    max_gap_ms: int = 0
    grace_ms: int = 0


AT_ONCE: Final = RescuePace()


class LeaseStore:
    """The operations of workers on the jobs that they claim, run and return, in all partitions."""

    def __init__(self, pipe: Pipe, settings: SharedSettings) -> None:
        self._pipe = pipe
        self._settings = settings

    async def claim(
        self,
        partition: int,
        claim: str,
        count: int,
        room: Mapping[str, int] | None = None,
        rates: Mapping[str, tuple[int, int]] | None = None,
        max_job_bytes: int = MAX_JOB_BYTES,
        worker: str = "",
        *,
        only_listed: bool = False,
    ) -> Claimed:
        """Assigns up to `count` waiting jobs to the caller. `claim` is a random id for the claim.

        A repeated call with the same `claim` returns the same jobs. The script adds no further job
        once the jobs together have `max_job_bytes`.
        `room` limits the number of jobs that may begin, by model; -1 means no limit. Other models
        are not limited, or with `only_listed`, their jobs stay in the queue for other workers.
        `rates` contains the requests and tokens per minute that a model's provider allows, by
        model. 0 means no limit. `worker` is the worker to wake when a job is queued, unless the
        next claim may return further jobs.
        """
        names = Partition(partition)
        room, rates = room or {}, rates or {}
        rooms: list[str | int] = []
        for model in dict.fromkeys((*room, *rates)):
            rooms += [model, room.get(model, -1), *rates.get(model, (0, 0))]
        left, *rows = await self._pipe.run(
            calls.claim(
                queues_key=names.queues,
                claimed_key=names.claimed(claim),
                prefix=names.prefix,
                claim=claim,
                worker=worker,
                count=count,
                lease_ms=self._settings.lease_ms,
                tenant_running=self._settings.tenant_running,
                max_bytes=MAX_NOTIFICATION_BYTES,
                max_job_bytes=max_job_bytes,
                only_listed=int(only_listed),
                model_limits=rooms,
            )
        )
        return Claimed([granted(claim, row) for row in rows], left)

    def wake_another(self, partition: int) -> None:
        """Wakes another idle worker for the waiting jobs of a partition, if there are any.

        Does not wait for the reply. If the call is lost, idle workers find the jobs by themselves.
        """
        names = Partition(partition)
        self._pipe.begin(calls.wake(queues_key=names.queues, prefix=names.prefix))

    async def has_work(self, partition: int) -> bool:
        """Returns True if jobs of a partition may be waiting, or may be due for a retry."""
        names = Partition(partition)
        return bool(await self._pipe.call("EXISTS", names.queues, names.delayed))

    def is_reachable(self, partition: int) -> bool:
        """Returns True if there is a connection to the Redis that has the partition."""
        return self._pipe.is_connected_for(Partition(partition).queues)

    async def extend(self, partition: int, held: list[tuple[str, str]]) -> list[str]:
        """Renews the leases of `(response id, claim)` pairs and returns a state for each pair.

        "held" means that the claim still holds the job, "cancel" that the claim holds the job but
        the worker must cancel it, "steered" that the claim holds the job and the job has steers,
        "gone" that the response was deleted, and "lost" that the claim no longer holds the job.
        """
        names = Partition(partition)
        flat = [part for pair in held for part in pair]
        reply = await self._pipe.run(
            calls.extend(
                leases_key=names.leases,
                prefix=names.prefix,
                lease_ms=self._settings.lease_ms,
                held=flat,
            )
        )
        return [answer.decode() for answer in reply]

    async def retry(
        self,
        response_id: str,
        claim: str,
        delay_ms: int,
        reason: str,
        *,
        keeps_checkpoint: bool = False,
        http_status: int | None = None,
    ) -> None:
        """Queues a running job for another attempt after `delay_ms`.

        If the job keeps its checkpoint, the next worker may continue its answer. `http_status` is
        the status with which the model's endpoint refused the attempt. Raises: Fenced, Gone.
        """
        reply = await self._pipe.run(
            calls.retry(
                **script_keys(response_id),
                claim=claim,
                delay_ms=delay_ms,
                reason=reason,
                keeps_checkpoint=int(keeps_checkpoint),
                http_status="" if http_status is None else http_status,
            )
        )
        check_held(response_id, reply)

    async def begin_again(
        self, response_id: str, claim: str, attempt: int, *, keeps_checkpoint: bool = False
    ) -> None:
        """Counts another attempt of a running job that had a checkpoint.

        `attempt` is the number of the new attempt. `keeps_checkpoint` is True if the model
        continues the text in the log. Raises: Fenced, Gone.
        """
        reply = await self._pipe.run(
            calls.begin_again(
                job_key=script_keys(response_id)["job_key"],
                claim=claim,
                attempt=attempt,
                keeps_checkpoint=int(keeps_checkpoint),
            )
        )
        check_held(response_id, reply)

    async def give_back(self, response_id: str, claim: str, reason: str) -> None:
        """Returns a running job to the front of its tenant's queue, without counting a failure.

        Raises: Fenced, Gone.
        """
        reply = await self._pipe.run(
            calls.give_back(**script_keys(response_id), claim=claim, reason=reason)
        )
        check_held(response_id, reply)

    async def checkpoint(self, response_id: str) -> Checkpoint | None:
        """Returns the checkpoint of a job's log, or None if it has none or the job is gone."""
        key = names_of(response_id).job(response_id)
        return decoded(await self._pipe.call("HGET", key, "checkpoint") or b"")

    async def rescue(
        self, partition: int, claim: str, pace: RescuePace = AT_ONCE
    ) -> tuple[int, list[Grant]]:
        """Recovers the lost jobs of a partition, such as those of dead workers.

        Returns the number of jobs that were queued again, and the jobs that the caller must end.
        """
        names, settings = Partition(partition), self._settings
        requeued, rows = await self._pipe.run(
            calls.rescue(
                leases_key=names.leases,
                delayed_key=names.delayed,
                open_key=names.open,
                rescued_key=names.rescued,
                prefix=names.prefix,
                claim=claim,
                lease_ms=settings.lease_ms,
                max_attempts=settings.max_attempts,
                inspect_ms=settings.inspect_ms,
                limit=RESCUE_LIMIT,
                every_ms=pace.every_ms,
                max_gap_ms=pace.max_gap_ms,
                grace_ms=pace.grace_ms,
            )
        )
        return requeued, [granted(claim, row) for row in rows]
