"""Reads the running jobs of all partitions, a bounded number of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .names import Partition, model_of
from .redis.unexpected_reply import decoding
from .scripts import calls

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .redis.pipe import Pipe


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A running job.

    `submitted` is in milliseconds of Redis time, and `lease_ms` is the time that is left of its
    lease, which is negative if its worker has not renewed the lease in time. `model` is "" if the
    models file does not list the job's model.
    """

    id: str
    lease_ms: int
    attempt: int
    model: str
    submitted: int


async def running_jobs(pipe: Pipe, partitions: Iterable[int], most: int) -> list[RunningJob]:
    """Returns up to `most` running jobs, those whose leases end first at the beginning.

    Raises: RedisTrouble.
    """
    found = await asyncio.gather(*(_read(pipe, Partition(number), most) for number in partitions))
    jobs = sorted((job for jobs in found for job in jobs), key=lambda job: job.lease_ms)
    return jobs[:most]


async def _read(pipe: Pipe, names: Partition, most: int) -> list[RunningJob]:
    call = calls.running_jobs(leases_key=names.leases, prefix=names.prefix, most=most)
    with decoding("the running responses"):
        now, *rows = await pipe.run(call)
        return [
            RunningJob(id_.decode(), until - now, attempt, model_of(queue_name.decode()), submitted)
            for id_, until, attempt, queue_name, submitted in rows
        ]
