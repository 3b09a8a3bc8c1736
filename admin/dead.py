"""Manages the dead list, which holds queue entries that workers no longer process."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import click

from jobs.config import settings as env
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
from runtime import command_line
from runtime.logs import printable

from . import cli
from .audited import Audit
from .cli import Output

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from jobs.record import SharedSettings

HELP: Final = """\
Manages the dead list, which holds jobs that no worker will try again.

examples:
  holdline dead list                           each response with its state
  holdline status RESPONSE_ID                  why a response failed
  holdline dead again RESPONSE_ID              submit its request again, as a new response
  holdline dead drop RESPONSE_ID               remove it from the list\
"""
LIST_HELP: Final = """\
Lists all entries, each with the status of its response.

An entry that is not the id of a response is shown as bytes.

examples:
  holdline dead list
  holdline dead list --json | jq -r .entry\
"""
AGAIN_HELP: Final = """\
Submits the request of a response again, as a new response.

The entry of the old response is removed from the list.

examples:
  holdline dead again RESPONSE_ID\
"""
DROP_HELP: Final = """\
Removes an entry from the dead list. The response itself stays.

examples:
  holdline dead drop RESPONSE_ID\
"""


@click.group(cls=command_line.Group, help=HELP)
def dead() -> None:
    """The group of the commands for the dead list."""


@dead.command("list", help=LIST_HELP)
@cli.prints
async def list_all(environ: Mapping[str, str]) -> AsyncIterator[Output]:
    """Lists the entries of all partitions."""
    total = 0
    async with _open(environ) as (pipe, queue, settings):
        for partition in settings.partitions:
            for entry in await queue.dead(partition):
                total += 1
                with decoding("the dead list"):
                    found = await _state(pipe, entry)
                yield found
    yield Output(f"{total} entries in the dead list")


@dead.command("again", help=AGAIN_HELP)
@click.argument("response_id")
@cli.prints
async def again(environ: Mapping[str, str], *, response_id: str) -> AsyncIterator[Output]:
    """Submits a response again."""
    async with _open(environ) as (pipe, queue, _):
        try:
            new = await _again(pipe, queue, Audit.from_environ(environ), response_id)
        except UnknownResponse:
            raise cli.not_found(response_id) from None
    yield Output(
        f"{response_id} was submitted again as {new}", {"entry": response_id, "submitted_as": new}
    )


@dead.command("drop", help=DROP_HELP)
@click.argument("entry", metavar="RESPONSE_ID")
@cli.prints
async def drop(environ: Mapping[str, str], *, entry: str) -> AsyncIterator[Output]:
    """Removes an entry."""
    audit = Audit.from_environ(environ)
    async with _open(environ) as (_, queue, settings), audit.change("dead drop", entry) as outcome:
        # Each partition is tried, because an entry need not be the id of a response.
        found = [await queue.unbury(number, entry.encode()) for number in settings.partitions]
        outcome.after = "dropped" if any(found) else "not in the dead list"
    text = f"{entry} was dropped" if any(found) else f"{entry} is not in the dead list"
    yield Output(text, {"entry": entry, "dropped": any(found)})


@contextlib.asynccontextmanager
async def _open(environ: Mapping[str, str]) -> AsyncIterator[tuple[Pipe, Queue, SharedSettings]]:
    env.check_names(environ)
    url, cipher = shared_config.redis_url(environ), shared_config.cipher(environ)
    settings = shared_config.shared_settings(environ)
    async with redis_from_url(url, cipher).pipe() as pipe:
        yield pipe, Queue(pipe, settings), settings


async def _state(pipe: Pipe, entry: bytes) -> Output:
    try:
        name = entry.decode("ascii")
        names = Partition(partition_of(name))
    except (UnicodeDecodeError, UnknownResponse):
        return Output(
            f"{entry[:80]!r}  is not a response id; drop the entry",
            {"entry": entry.decode(errors="replace"), "status": None, "failures": None},
        )
    status, failures = await pipe.call("HMGET", names.job(name), "status", "failures")
    if status is None:
        value = {"entry": name, "status": "expired", "failures": None}
        return Output(f"{name}  has expired; drop the entry", value)
    lost = int(failures or 0)
    state = printable(status.decode())
    return Output(
        f"{name}  {state} after {lost} lost attempts",
        {"entry": name, "status": state, "failures": lost},
    )


async def _again(pipe: Pipe, queue: Queue, audit: Audit, response_id: str) -> str:
    """Submits a response again, and returns the id of the new response."""
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
    return accepted.response_id
