"""The command `holdline doctor`, which runs all checks and prints their findings."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections import Counter
from typing import TYPE_CHECKING, Final

import click
import structlog

from admin import cli
from admin.cli import PROGRAMS, Output
from jobs.errors import HoldlineError
from runtime import command_line
from runtime.logs import printable_lines

from .findings import Context, Finding, Level
from .report import as_object, as_text, examine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

HELP: Final = """\
Checks an installation: Redis, this machine, the settings, the keys and the models.

Run it with the environment variables of a server or a worker. Beside a running `holdline up`, and
without REDIS_URL, it uses the settings of `holdline up`. The first finding says which settings it
has checked. It changes nothing, sends no prompt and prints no secret. Each finding has a level:

  ok        nothing to do
  warning   a risk, which breaks no promise yet
  broken    the promise of docs/promises.md whose number is shown does not hold
  unknown   this part could not be checked

The exit status is 1 if a finding is `broken`, and 0 otherwise. `holdline check` checks only the
settings, and needs no Redis.

examples:
  holdline doctor
  holdline doctor --program server             only what a server needs
  holdline doctor --json | jq -r '.findings[] | select(.level == "broken").seen'\
"""
CLEAR_LINE: Final = "\r\x1b[K"


class PromiseBroken(HoldlineError):
    """At least one finding breaks a promise."""


@click.command(cls=command_line.Command, help=HELP)
@cli.program_option
@cli.prints
async def doctor(environ: Mapping[str, str], *, programs: tuple[str, ...]) -> AsyncIterator[Output]:
    """Runs all checks.

    Raises: PromiseBroken after the last line.
    """
    on_terminal = sys.stderr.isatty()

    def progress(subject: str) -> None:
        if on_terminal:
            sys.stderr.write(f"{CLEAR_LINE}checking {subject} ..." if subject else CLEAR_LINE)
            sys.stderr.flush()

    context = Context(environ, programs or PROGRAMS)
    found: list[tuple[str, Finding]] = []
    with _without_logs():
        async for subject, finding in examine(context, progress):
            found.append((subject, finding))
            progress("")
            yield Output(printable_lines(as_text(subject, finding)))
    progress("")
    levels = Counter(finding.level for _, finding in found)
    yield Output(
        f"{len(found)} findings: {', '.join(f'{levels[level]} {level}' for level in Level)}",
        {
            "ok": not levels[Level.BROKEN],
            "counts": {str(level): levels[level] for level in Level},
            "findings": [as_object(*each) for each in found],
        },
    )
    if broken := levels[Level.BROKEN]:
        raise PromiseBroken(f"a promise does not hold; findings that are broken: {broken}")


@contextlib.contextmanager
def _without_logs() -> Iterator[None]:
    """Silences the parts that the checks use, whose warnings repeat findings, or quote a file."""
    configured, disabled = structlog.get_config(), logging.root.manager.disable
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        structlog.configure(**configured)
        logging.disable(disabled)
