"""Manages the dead list, which holds queue entries that workers no longer process.

list           list all entries: a response id with its status, or bytes that are not an id
again ID       submit the request of a response again, as a new response, and remove the entry
drop ID        remove an entry
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from jobs.config import shared_config
from jobs.errors import UnknownResponse
from jobs.ids import new_response_id
from jobs.log.codec import job_of
from jobs.log.events import begins, submitted
from jobs.names import Partition, partition_of
from jobs.queue import Queue
from jobs.redis.pipe import Pipe
from jobs.redis.unexpected_reply import decoding
from jobs.redis.url import redis_from_url

from . import cli
from .audited import Audit

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Mapping, Sequence


async def _state(pipe: Pipe, entry: bytes) -> str:
    try:
        name = entry.decode("ascii")
        names = Partition(partition_of(name))
    except (UnicodeDecodeError, UnknownResponse):
        return f"{entry[:80]!r}  is not a response id; drop the entry"
    status, failures = await pipe.call("HMGET", names.job(name), "status", "failures")
    if status is None:
        return f"{name}  has expired; drop the entry"
    return f"{name}  {status.decode()} after {int(failures or 0)} lost attempts"


async def _list(pipe: Pipe, queue: Queue, partitions: range) -> AsyncIterator[str]:
    total = 0
    for partition in partitions:
        for entry in await queue.dead(partition):
            total += 1
            with decoding("the dead list"):
                line = await _state(pipe, entry)
            yield line
    yield f"{total} entries in the dead list"


async def _again(pipe: Pipe, queue: Queue, audit: Audit, response_id: str) -> str:
    partition = partition_of(response_id)
    key, fields = Partition(partition).job(response_id), ("job", "queue_name", "trace")
    data, queue_name, trace = await pipe.call("HMGET", key, *fields)
    if data is None:
        raise UnknownResponse(response_id)
    old = job_of(response_id, data, pipe.cipher)
    job = replace(old, id=new_response_id(partition), created_at=int(time.time()))
    async with audit.change("dead again", response_id, after=f"submitted as {job.id}"):
        accepted = await queue.submit(
            job,
            submitted(job),
            begins=begins(job),
            queue_name=(queue_name or b"").decode(),
            trace=(trace or b"").decode(),
        )
        await queue.unbury(partition, response_id.encode())
    return f"{response_id} was submitted again as {accepted.response_id}"


async def _drop(queue: Queue, audit: Audit, partitions: range, entry: str) -> str:
    async with audit.change("dead drop", entry) as outcome:
        dropped = [await queue.unbury(number, entry.encode()) for number in partitions]
        outcome.after = "dropped" if any(dropped) else "not in the dead list"
    return f"{entry} was dropped" if any(dropped) else f"{entry} is not in the dead list"


async def run(environ: Mapping[str, str], argv: Sequence[str]) -> AsyncIterator[str]:
    """Runs `python -m admin.dead`, and yields the lines to print."""
    arguments = _parser().parse_args(argv)
    url, cipher = shared_config.redis_url(environ), shared_config.cipher(environ)
    shared, audit = shared_config.shared_settings(environ), Audit.from_environ(environ)
    async with redis_from_url(url, cipher).pipe() as pipe:
        queue = Queue(pipe, shared)
        match arguments.action:
            case "list":
                async for line in _list(pipe, queue, shared.partitions):
                    yield line
            case "again":
                yield await _again(pipe, queue, audit, arguments.id)
            case _:
                yield await _drop(queue, audit, shared.partitions, arguments.id)


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("admin.dead", __doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("list")
    for name in ("again", "drop"):
        actions.add_parser(name).add_argument("id", help="the response id in the dead list")
    return parser


if __name__ == "__main__":
    sys.exit(cli.main("admin.dead", run))
