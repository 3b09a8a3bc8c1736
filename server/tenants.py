"""`python -m server.tenants`: what holds for one tenant, changed while everything runs.

show TENANT                 its settings, how many of its answers run, whether others wait for them
set TENANT NAME=VALUE ...   sets some; the next claim goes by them
clear TENANT                back to the defaults
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import TYPE_CHECKING

from jobs.environment import ConfigError
from jobs.errors import HoldlineError
from jobs.tenants import FIELDS, Tenants, WrongSetting
from jobs.where import redis_at

from .config import Config

if TYPE_CHECKING:
    from collections.abc import Sequence


def _values(written: list[str]) -> dict[str, str]:
    values = {}
    for pair in written:
        name, equals, value = pair.partition("=")
        if not equals or not value:
            raise WrongSetting(f"{pair!r} is not NAME=VALUE")
        values[name] = value
    return values


async def _show(tenants: Tenants, tenant: str) -> None:
    found, standing = await tenants.get(tenant), await tenants.standing(tenant)
    for name, field in FIELDS.items():
        print(f"{name:20} {found.get(name, 'default'):>12}  {field.what}")
    held = "; others wait for one of them to end" if standing.held else ""
    print(f"{standing.running} of its answers run{held}")
    print(f"{standing.tokens} tokens and {standing.money:.6g} used or reserved today (UTC)")


async def _run(config: Config, arguments: argparse.Namespace) -> None:
    async with redis_at(config.redis_url).pipe() as pipe:
        tenants = Tenants(pipe, config.terms.partitions)
        if arguments.action == "set":
            await tenants.set(arguments.tenant, _values(arguments.values))
        elif arguments.action == "clear":
            await tenants.clear(arguments.tenant)
        await _show(tenants, arguments.tenant)


def main(argv: Sequence[str] | None = None) -> int:
    """Does one of the three; 0, or 1 when it could not."""
    parser = argparse.ArgumentParser(
        prog="python -m server.tenants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True)
    for name in ("show", "set", "clear"):
        action = actions.add_parser(name)
        action.add_argument("tenant")
        if name == "set":
            action.add_argument("values", nargs="+", metavar="NAME=VALUE")
    arguments = parser.parse_args(argv)
    try:
        asyncio.run(_run(Config.from_environ(os.environ), arguments))
    except (ConfigError, HoldlineError) as error:
        print(f"tenants: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
