"""Shows and changes the limits of one tenant, without a restart."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import click

from jobs.config import settings as env
from jobs.config import shared_config
from jobs.redis.url import redis_from_url
from jobs.tenants import FIELDS, Tenants, defaults, numbers
from runtime import command_line

from . import cli
from .arguments import DEFAULT, LIMIT, TENANT, each_once
from .audited import Audit
from .cli import Output

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

HELP: Final = """\
Shows and changes the limits of one tenant, without a restart.

examples:
  holdline tenants show acme
  holdline tenants set acme running=20 requests_per_minute=600
  holdline tenants clear acme                  reset all limits to the defaults

limits:
{limits}\
"""
SHOW_HELP: Final = """\
Shows a tenant's limits and today's usage.

A limit that is not set has its default, which the servers' settings state. Run the command with the
same settings.

examples:
  holdline tenants show acme
  holdline tenants show acme --json | jq .limits\
"""
SET_HELP: Final = """\
Changes limits of a tenant. They apply from the next prompt or claim of a job.

examples:
  holdline tenants set acme running=20
  holdline tenants set acme tokens_per_day=1000000 weight=2
  holdline tenants set acme running=default    reset one limit to the default

limits:
{limits}\
"""
CLEAR_HELP: Final = """\
Resets all limits of a tenant to the defaults.

examples:
  holdline tenants clear acme\
"""
LIMITS: Final = "\n".join(f"  {name:28} {field.what}" for name, field in FIELDS.items())


@click.group(cls=command_line.Group, help=HELP.format(limits=LIMITS))
def tenants() -> None:
    """The group of the commands for tenants."""


@tenants.command("show", help=SHOW_HELP)
@click.argument("tenant", type=TENANT)
@cli.prints
async def show(environ: Mapping[str, str], *, tenant: str) -> AsyncIterator[Output]:
    """Shows the limits and the usage of a tenant."""
    async with _open(environ) as (found, usual):
        yield await _shown(found, usual, tenant)


@tenants.command("set", help=SET_HELP.format(limits=LIMITS))
@click.argument("tenant", type=TENANT)
@click.argument(
    "limits", metavar="NAME=VALUE...", type=LIMIT, nargs=-1, required=True, callback=each_once
)
@cli.prints
async def set_limits(
    environ: Mapping[str, str], *, tenant: str, limits: dict[str, str]
) -> AsyncIterator[Output]:
    """Changes limits of a tenant."""
    async with _open(environ) as (found, usual):
        audit = Audit.from_environ(environ)
        await _set(found, audit, "tenants set", tenant, limits)
        yield await _shown(found, usual, tenant)


@tenants.command("clear", help=CLEAR_HELP)
@click.argument("tenant", type=TENANT)
@cli.prints
async def clear(environ: Mapping[str, str], *, tenant: str) -> AsyncIterator[Output]:
    """Resets all limits of a tenant."""
    async with _open(environ) as (found, usual):
        audit = Audit.from_environ(environ)
        await _set(found, audit, "tenants clear", tenant, dict.fromkeys(FIELDS, ""))
        yield await _shown(found, usual, tenant)


@contextlib.asynccontextmanager
async def _open(environ: Mapping[str, str]) -> AsyncIterator[tuple[Tenants, dict[str, float]]]:
    env.check_names(environ)
    settings = shared_config.shared_settings(environ)
    async with redis_from_url(shared_config.redis_url(environ)).pipe() as pipe:
        yield Tenants(pipe, settings.partitions), defaults(settings)


async def _shown(tenants: Tenants, usual: Mapping[str, float], tenant: str) -> Output:
    found, usage = await tenants.get(tenant), await tenants.usage(tenant)
    held = "; the limit is reached, so further responses wait" if usage.held else ""
    lines = [
        f"{name:27} {found.get(name, f'{usual[name]:.15g}'):>12}  "
        f"{'' if name in found else DEFAULT:7}  {field.what}"
        for name, field in FIELDS.items()
    ]
    lines.append(f"{usage.running} responses are running{held}")
    lines.append(
        f"{usage.tokens} tokens and a cost of {usage.money:.6g} were used or reserved today (UTC)"
    )
    value: dict[str, Any] = {
        "tenant": tenant,
        "limits": {**dict.fromkeys(FIELDS), **numbers(found)},
        "defaults": usual,
        "running": usage.running,
        "limit_reached": usage.held,
        "tokens_today": usage.tokens,
        "cost_today": usage.money,
    }
    return Output("\n".join(lines), value)


async def _set(
    tenants: Tenants, audit: Audit, command: str, tenant: str, values: Mapping[str, str]
) -> None:
    """Changes settings of a tenant; the value "" restores a default."""
    found = await tenants.get(tenant)
    before = {name: found.get(name, "") for name in values}
    changed = [name for name in values if values[name] != before[name]]
    async with audit.change(
        command,
        f"tenant {tenant}",
        before=_short(before, changed),
        after=_short(values, changed),
    ):
        await tenants.set(tenant, values)


def _short(values: Mapping[str, str], names: list[str]) -> str:
    """Describes settings of a tenant in the audit log."""
    return " ".join(f"{name}={values[name] or DEFAULT}" for name in names) or "no change"
