"""Lists the audit log: which operator changed what with a command, and the result."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from jobs.audit import AuditLog
from jobs.redis.url import redis_from_url
from runtime import command_line
from runtime.logs import printable

from . import cli
from .arguments import SECONDS
from .audited import Audit
from .cli import Output

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from jobs.audit import Change

HELP: Final = """\
Lists the audit log: which operator changed what with a command, and the result.

Each line has the time in UTC, the operator, the command, the target, the target before and after
the change, and the result. "no result" means that the command ended before it recorded a result.

examples:
  holdline audit --since 7d
  holdline audit --target acme                 the changes of the tenant acme
  holdline audit --json | jq -r 'select(.command == "keys revoke").target'\
"""


def _time(change: Change) -> datetime:
    return datetime.fromtimestamp(change.time / 1000, UTC)


def _line(change: Change) -> str:
    account = f"{change.user}@{change.host}"
    who = f"{change.operator} ({account})" if change.operator else account
    states = [change.before] * bool(change.before) + [f"-> {change.after}"] * bool(change.after)
    parts = [
        f"{_time(change):%Y-%m-%d %H:%M:%S}",
        who,
        change.command,
        change.target,
        *([" ".join(states)] if states else []),
        change.result or "no result",
    ]
    return printable("  ".join(parts))


def _as_dict(change: Change) -> dict[str, Any]:
    time = _time(change).isoformat(timespec="milliseconds")
    return {**msgspec.structs.asdict(change), "time": time}


@click.command(cls=command_line.Command, help=HELP)
@click.option(
    "--since", type=SECONDS, help="how far back to list changes, such as 7d (default: all)"
)
@click.option("--target", default="", help="list only the changes whose target contains this text")
@cli.prints
async def audit(
    environ: Mapping[str, str], *, since: float | None, target: str
) -> AsyncIterator[Output]:
    """Lists the changes, the oldest first."""
    settings = Audit.from_environ(environ)
    async with redis_from_url(settings.redis_url).pipe(deadline=4) as pipe:
        log, start = AuditLog(pipe, settings.retention_ms), 0
        if since is not None:
            start = max(0, await log.now_ms() - round(1000 * since))
        listed = 0
        async for change in log.changes(start):
            if target in change.target:
                listed += 1
                yield Output(_line(change), _as_dict(change))
    yield cli.total(listed, "change")
