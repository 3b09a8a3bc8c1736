"""Shows and changes the limits of one tenant, without a restart.

show TENANT                 show the tenant's limits and today's usage
set TENANT NAME=VALUE ...   change limits; they apply from the next prompt or claim of a job
clear TENANT                reset all limits of the tenant to the defaults
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from jobs.redis.url import redis_from_url
from jobs.tenants import FIELDS, Tenants, WrongSetting, checked
from server.config import Config

from . import cli
from .audited import Audit

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Mapping, Sequence


def _values(written: list[str]) -> dict[str, str]:
    values = {}
    for pair in written:
        name, equals, value = pair.partition("=")
        if not equals or not value:
            raise WrongSetting(f"{pair!r} does not have the form NAME=VALUE")
        values[name] = value
    return values


async def _text(tenants: Tenants, tenant: str) -> str:
    found, usage = await tenants.get(tenant), await tenants.usage(tenant)
    held = "; the limit is reached, so further responses wait" if usage.held else ""
    lines = [
        f"{name:27} {found.get(name, 'default'):>12}  {field.what}"
        for name, field in FIELDS.items()
    ]
    lines.append(f"{usage.running} responses are running{held}")
    lines.append(
        f"{usage.tokens} tokens and a cost of {usage.money:.6g} were used or reserved today (UTC)"
    )
    return "\n".join(lines)


async def _set(
    tenants: Tenants, audit: Audit, arguments: argparse.Namespace, values: Mapping[str, str]
) -> None:
    """Changes settings of a tenant; the value "" restores a default."""
    wanted = {name: checked(name, value) for name, value in values.items()}
    found = await tenants.get(arguments.tenant)
    before = {name: found.get(name, "") for name in wanted}
    changed = [name for name in wanted if wanted[name] != before[name]]
    async with audit.change(
        f"tenants {arguments.action}",
        f"tenant {arguments.tenant}",
        before=_short(before, changed),
        after=_short(wanted, changed),
    ):
        await tenants.set(arguments.tenant, wanted)


def _short(values: Mapping[str, str], names: list[str]) -> str:
    """Describes settings of a tenant in the audit log."""
    return " ".join(f"{name}={values[name] or 'default'}" for name in names) or "no change"


async def run(environ: Mapping[str, str], argv: Sequence[str]) -> AsyncIterator[str]:
    """Runs `python -m admin.tenants`, and yields the text to print."""
    arguments = _parser().parse_args(argv)
    config = Config.from_environ(environ)
    async with redis_from_url(config.redis_url).pipe() as pipe:
        tenants = Tenants(pipe, config.shared.partitions)
        if arguments.action != "show":
            cleared = arguments.action == "clear"
            values = dict.fromkeys(FIELDS, "") if cleared else _values(arguments.values)
            await _set(tenants, Audit.from_environ(environ), arguments, values)
        yield await _text(tenants, arguments.tenant)


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("admin.tenants", __doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    for name in ("show", "set", "clear"):
        action = actions.add_parser(name)
        action.add_argument("tenant", help="name of the tenant")
        if name == "set":
            action.add_argument(
                "values", nargs="+", metavar="NAME=VALUE", help="a limit and its new value"
            )
    return parser


if __name__ == "__main__":
    sys.exit(cli.main("admin.tenants", run))
