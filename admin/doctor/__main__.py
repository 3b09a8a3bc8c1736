"""Checks an installation: Redis, this machine, the settings, the keys and the models.

Run it with the environment variables of a server or a worker. It changes nothing, sends no prompt
and prints no secret. Each finding has a level:

ok        nothing to do
warning   a risk, which breaks no promise yet
broken    the promise of docs/promises.md whose number is shown does not hold
unknown   this part could not be checked

The exit status is 1 if a finding is `broken`, and 0 otherwise.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from typing import TYPE_CHECKING, Final

import structlog

from admin import cli
from jobs.errors import HoldlineError
from runtime.logs import printable_lines

from .findings import PROGRAMS, Context, Finding, Level
from .report import as_object, as_text, examine

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Mapping, Sequence

CLEAR_LINE: Final = "\r\x1b[K"


class PromiseBroken(HoldlineError):
    """At least one finding breaks a promise."""


async def run(environ: Mapping[str, str], argv: Sequence[str]) -> AsyncIterator[str]:
    """Runs `python -m admin.doctor`, and yields the lines to print.

    Raises: PromiseBroken after the last line.
    """
    arguments = _parser().parse_args(argv)
    on_terminal = sys.stderr.isatty()

    def progress(subject: str) -> None:
        if on_terminal:
            sys.stderr.write(f"{CLEAR_LINE}checking {subject} ..." if subject else CLEAR_LINE)
            sys.stderr.flush()

    context = Context(environ, tuple(arguments.program or PROGRAMS))
    found: list[tuple[str, Finding]] = []
    async for subject, finding in examine(context, progress):
        found.append((subject, finding))
        if not arguments.json:
            progress("")
            yield printable_lines(as_text(subject, finding))
    progress("")
    levels = Counter(finding.level for _, finding in found)
    if arguments.json:
        yield cli.as_json(
            {
                "ok": not levels[Level.BROKEN],
                "counts": {str(level): levels[level] for level in Level},
                "findings": [as_object(*each) for each in found],
            },
        )
    else:
        yield f"{len(found)} findings: {', '.join(f'{levels[level]} {level}' for level in Level)}"
    if broken := levels[Level.BROKEN]:
        raise PromiseBroken(f"a promise does not hold; findings that are broken: {broken}")


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("admin.doctor", __doc__)
    parser.add_argument(
        "--program",
        choices=PROGRAMS,
        action="append",
        help="the program for which the environment variables are meant (default: both)",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as one JSON object")
    return parser


def main() -> int:
    """Runs the command and returns the exit status."""
    # Warnings of the parts that the checks use would repeat findings, and may quote a file.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
    return cli.main("admin.doctor", run)


if __name__ == "__main__":
    sys.exit(main())
