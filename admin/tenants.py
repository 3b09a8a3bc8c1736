"""Shows and changes the limits of one tenant, without a restart."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import click

from jobs.redis.url import redis_from_url
from jobs.tenants import FIELDS, Tenants, WrongSetting, checked, numbers
from runtime import command_line
from server.config import Config

from . import cli
from .audited import Audit
from .cli import Output

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

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
DEFAULT: Final = "default"
LIMITS: Final = "\n".join(f"  {name:28} {field.what}" for name, field in FIELDS.items())


@click.group(cls=command_line.Group, help=HELP.format(limits=LIMITS))
def tenants() -> None:
    """The group of the commands for tenants."""


@tenants.command("show", help=SHOW_HELP)
@click.argument("tenant")
@cli.prints
async def show(environ: Mapping[str, str], *, tenant: str) -> AsyncIterator[Output]:
    """Shows the limits and the usage of a tenant."""
    async with _open(environ) as found:
        yield await _shown(found, tenant)


@tenants.command("set", help=SET_HELP.format(limits=LIMITS))
@click.argument("tenant")
@click.argument("values", metavar="NAME=VALUE...", nargs=-1, required=True)
@cli.prints
async def set_limits(
    environ: Mapping[str, str], *, tenant: str, values: tuple[str, ...]
) -> AsyncIterator[Output]:
    """Changes limits of a tenant."""
    async with _open(environ) as found:
        audit = Audit.from_environ(environ)
        await _set(found, audit, "tenants set", tenant, _values(values))
        yield await _shown(found, tenant)


@tenants.command("clear", help=CLEAR_HELP)
@click.argument("tenant")
@cli.prints
async def clear(environ: Mapping[str, str], *, tenant: str) -> AsyncIterator[Output]:
    """Resets all limits of a tenant."""
    async with _open(environ) as found:
        audit = Audit.from_environ(environ)
        await _set(found, audit, "tenants clear", tenant, dict.fromkeys(FIELDS, ""))
        yield await _shown(found, tenant)


@contextlib.asynccontextmanager
async def _open(environ: Mapping[str, str]) -> AsyncIterator[Tenants]:
    config = Config.from_environ(environ)
    async with redis_from_url(config.redis_url).pipe() as pipe:
        yield Tenants(pipe, config.shared.partitions)


def _values(written: Sequence[str]) -> dict[str, str]:
    values = {}
    for pair in written:
        name, equals, value = pair.partition("=")
        if not equals or not value:
            raise WrongSetting(f"{pair!r} does not have the form NAME=VALUE")
        values[name] = "" if value == DEFAULT else value
    return values


async def _shown(tenants: Tenants, tenant: str) -> Output:
    found, usage = await tenants.get(tenant), await tenants.usage(tenant)
    held = "; the limit is reached, so further responses wait" if usage.held else ""
    lines = [
        f"{name:27} {found.get(name, DEFAULT):>12}  {field.what}" for name, field in FIELDS.items()
    ]
    lines.append(f"{usage.running} responses are running{held}")
    lines.append(
        f"{usage.tokens} tokens and a cost of {usage.money:.6g} were used or reserved today (UTC)"
    )
    value: dict[str, Any] = {
        "tenant": tenant,
        "limits": {**dict.fromkeys(FIELDS), **numbers(found)},
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
    wanted = {name: checked(name, value) for name, value in values.items()}
    found = await tenants.get(tenant)
    before = {name: found.get(name, "") for name in wanted}
    changed = [name for name in wanted if wanted[name] != before[name]]
    async with audit.change(
        command,
        f"tenant {tenant}",
        before=_short(before, changed),
        after=_short(wanted, changed),
    ):
        await tenants.set(tenant, wanted)


def _short(values: Mapping[str, str], names: list[str]) -> str:
    """Describes settings of a tenant in the audit log."""
    return " ".join(f"{name}={values[name] or DEFAULT}" for name in names) or "no change"
