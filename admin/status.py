"""Shows the state of the service, or the timeline of one response.

Without RESPONSE_ID, shows the queue by tier, model and tenant with the ages of its oldest prompts,
the live workers and what they run, paused models, budgets, the dead list, webhooks and Redis. With
RESPONSE_ID, shows the steps of one response with their times. Neither shows a prompt or an answer.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from jobs.config import settings as env
from jobs.config import shared_config
from jobs.errors import HoldlineError, UnknownResponse
from jobs.overview import read_overview
from jobs.redis.node_state import node_states
from jobs.redis.url import redis_from_url
from jobs.service_health import service_health
from jobs.timeline_reader import read_timeline
from jobs.worker_registry import WorkerRegistry
from runtime.logs import printable

from . import cli
from .status_text import Status, status_lines, timeline_lines

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

    from jobs.record import SharedSettings
    from jobs.redis.pipe import Pipe
    from jobs.timeline import Timeline
    from jobs.worker_registry import LiveWorker

# A command that an operator runs during an outage must say soon that Redis is unavailable.
REDIS_SECONDS = 4.0


async def run(environ: Mapping[str, str], argv: Sequence[str]) -> AsyncIterator[str]:
    """Runs `python -m admin.status`, and yields the lines to print."""
    arguments = _parser().parse_args(argv)
    env.check_names(environ)
    url, cipher = shared_config.redis_url(environ), shared_config.cipher(environ)
    shared, models = shared_config.shared_settings(environ), shared_config.catalog(environ).models
    async with redis_from_url(url, cipher).pipe(deadline=REDIS_SECONDS) as pipe:
        if arguments.response_id:
            timeline = await _timeline(pipe, arguments.response_id)
            shown, lines = timeline.as_dict(), timeline_lines(timeline)
        else:
            status = await _read(pipe, shared, models)
            shown, lines = status.as_dict(), status_lines(status)
    if arguments.json:
        yield cli.as_json(shown)
    else:
        for line in lines:
            yield line


async def _timeline(pipe: Pipe, response_id: str) -> Timeline:
    try:
        return await read_timeline(pipe, response_id)
    except UnknownResponse:
        raise HoldlineError(
            f"{printable(response_id)} not found: check the id; the response may have expired"
        ) from None


async def _read(pipe: Pipe, shared: SharedSettings, models: Collection[str]) -> Status:
    overview, workers, nodes = await asyncio.gather(
        read_overview(pipe, shared, models), WorkerRegistry(pipe).all(), node_states(pipe)
    )
    # A command line without the models file must not report all models as served by every worker.
    known = models or (
        {name for one in workers for name in one.models} if _all_listed(workers) else ()
    )
    return Status(overview, service_health(known, workers, overview), workers, nodes)


def _all_listed(workers: Sequence[LiveWorker]) -> bool:
    """Returns True if all live workers have a models file."""
    return all(worker.models for worker in workers)


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("admin.status", __doc__)
    parser.add_argument(
        "response_id",
        nargs="?",
        metavar="RESPONSE_ID",
        help="a response, to show its steps instead of the state of the service",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


if __name__ == "__main__":
    sys.exit(cli.main("admin.status", run))
