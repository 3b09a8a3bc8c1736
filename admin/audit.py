"""Lists the audit log: which operator changed what with an `admin` command, and the result.

Each line has the time in UTC, the operator, the command, the target, the target before and after
the change, and the result. "no result" means that the command ended before it recorded a result.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from jobs.audit import AuditLog
from jobs.redis.url import redis_from_url
from runtime.logs import printable

from . import cli
from .audited import Audit

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Mapping, Sequence

    from jobs.audit import Change


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


def _json(change: Change) -> str:
    time = _time(change).isoformat(timespec="milliseconds")
    return cli.as_json({**msgspec.structs.asdict(change), "time": time})


async def run(environ: Mapping[str, str], argv: Sequence[str]) -> AsyncIterator[str]:
    """Runs `python -m admin.audit`, and yields the lines to print."""
    arguments = _parser().parse_args(argv)
    settings = Audit.from_environ(environ)
    async with redis_from_url(settings.redis_url).pipe(deadline=4) as pipe:
        log, since = AuditLog(pipe, settings.retention_ms), 0
        if arguments.since is not None:
            since = max(0, await log.now_ms() - round(1000 * arguments.since))
        total = 0
        async for change in log.changes(since):
            if arguments.target in change.target:
                total += 1
                yield _json(change) if arguments.json else _line(change)
        if not arguments.json:
            yield "1 change" if total == 1 else f"{total} changes"


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("admin.audit", __doc__)
    parser.add_argument(
        "--since", type=cli.seconds, help="how far back to list changes, such as 7d (default: all)"
    )
    parser.add_argument(
        "--target", default="", help="list only the changes whose target contains this text"
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON per change")
    return parser


if __name__ == "__main__":
    sys.exit(cli.main("admin.audit", run))
