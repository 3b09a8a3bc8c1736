"""Shows the state of the service, or the timeline of one response."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import click

from jobs.config import settings as env
from jobs.config import shared_config
from jobs.errors import UnknownResponse
from jobs.names import names_of, tenant_of
from jobs.overview import read_overview
from jobs.redis.node_state import node_states
from jobs.redis.unexpected_reply import decoding
from jobs.redis.url import redis_from_url
from jobs.service_health import service_health
from jobs.timeline_reader import read_timeline
from jobs.worker_registry import WorkerRegistry
from runtime import command_line

from . import cli
from .cli import Output
from .status_text import MAX_RUNNING, Status, longest_running, status_lines, timeline_lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

    from jobs.record import SharedSettings
    from jobs.redis.pipe import Pipe
    from jobs.timeline import Timeline
    from jobs.worker_registry import LiveWorker

HELP: Final = """\
Shows the state of the service, or why one response is slow or has failed.

Without RESPONSE_ID, shows the queue by tier, model and tenant with the ages of its oldest prompts,
the live workers and what they run, paused models, budgets, the dead list, webhooks and Redis. With
RESPONSE_ID, shows the steps of one response with their times, and the error of each failed
attempt. Neither shows a prompt or an answer.

examples:
  holdline status
  holdline status resp_...                     why this response has failed
  holdline status --json | jq .queue\
"""
# A command that an operator runs during an outage must say soon that Redis is unavailable.
REDIS_SECONDS = 4.0


@click.command(cls=command_line.Command, help=HELP)
@click.argument("response_id", required=False)
@cli.prints
async def status(environ: Mapping[str, str], *, response_id: str | None) -> AsyncIterator[Output]:
    """Shows the state of the service or the timeline of a response."""
    env.check_names(environ)
    url, cipher = shared_config.redis_url(environ), shared_config.cipher(environ)
    shared, models = shared_config.shared_settings(environ), shared_config.catalog(environ).models
    async with redis_from_url(url, cipher).pipe(deadline=REDIS_SECONDS) as pipe:
        if response_id:
            timeline = await _timeline(pipe, response_id)
            yield Output("\n".join(timeline_lines(timeline)), timeline.as_dict())
        else:
            found = await _read(pipe, shared, models)
            yield Output("\n".join(status_lines(found)), found.as_dict())


async def _timeline(pipe: Pipe, response_id: str) -> Timeline:
    try:
        return await read_timeline(pipe, response_id)
    except UnknownResponse:
        raise cli.not_found(response_id) from None


async def _read(pipe: Pipe, shared: SharedSettings, models: Collection[str]) -> Status:
    overview, workers, nodes = await asyncio.gather(
        read_overview(pipe, shared, models), WorkerRegistry(pipe).all(), node_states(pipe)
    )
    # A command line without the models file must not report all models as served by every worker.
    known = models or (
        {name for one in workers for name in one.models} if _all_listed(workers) else ()
    )
    shown = [one.response_id for one, _ in longest_running(workers)[:MAX_RUNNING]]
    health = service_health(known, workers, overview)
    return Status(overview, health, workers, nodes, await _tenants(pipe, shown))


async def _tenants(pipe: Pipe, response_ids: Sequence[str]) -> dict[str, str]:
    """Returns the tenant of each response that still exists."""

    async def owner(response_id: str) -> bytes | None:
        try:
            key = names_of(response_id).job(response_id)
        except UnknownResponse:  # another program has written the worker's record
            return None
        found: bytes | None = await pipe.call("HGET", key, "owner")
        return found

    owners = await asyncio.gather(*map(owner, response_ids))
    with decoding("the record of a response"):
        return {
            one: tenant_of(found.decode())
            for one, found in zip(response_ids, owners, strict=True)
            if found is not None
        }


def _all_listed(workers: Sequence[LiveWorker]) -> bool:
    """Returns True if all live workers have a models file."""
    return all(worker.models for worker in workers)
