"""Cancels one response of any tenant, for example one that runs too long or costs too much."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from jobs import cancellation
from jobs.config import shared_config
from jobs.errors import Diverged, HoldlineError, UnknownResponse
from jobs.log.log import read
from jobs.names import tenant_of
from jobs.queue import Queue
from jobs.redis.url import redis_from_url
from runtime import command_line

from . import cli
from .audited import Audit
from .cli import Output

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

HELP: Final = """\
Cancels a response of any tenant, which ends with the output so far.

A waiting response ends at once. The worker of a running response ends its model call within a
second. A finished response stays as it is. The change is recorded in the audit log.

examples:
  holdline status                              lists the running responses with their tenants
  holdline cancel resp_...\
"""


@click.command(cls=command_line.Command, help=HELP)
@click.argument("response_id")
@cli.prints
async def cancel(environ: Mapping[str, str], *, response_id: str) -> AsyncIterator[Output]:
    """Cancels a response."""
    url, cipher = shared_config.redis_url(environ), shared_config.cipher(environ)
    audit, settings = Audit.from_environ(environ), shared_config.shared_settings(environ)
    async with redis_from_url(url, cipher).pipe() as pipe:
        try:
            view = await read(pipe, response_id, 0, max_entries=0)
            tenant, was = tenant_of(view.owner), view.status
            if was.ended:
                text = f"{response_id} of the tenant {tenant} has already ended: {was}"
            else:
                async with audit.change(
                    "cancel", f"response {response_id}", before=f"{was} of tenant {tenant}"
                ) as outcome:
                    ended = await cancellation.cancel(pipe, Queue(pipe, settings), response_id)
                    outcome.after = "cancelled" if ended else "the worker was asked to end it"
                text = f"{response_id} of the tenant {tenant}: {outcome.after}"
        except UnknownResponse:
            raise cli.not_found(response_id) from None
        except Diverged:
            raise HoldlineError(f"{response_id} changes too quickly; try again") from None
    yield Output(
        text,
        {
            "response_id": response_id,
            "tenant": tenant,
            "status_before": str(was),
            "cancelled": not was.ended,
        },
    )
