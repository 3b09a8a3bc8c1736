"""The command line."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from torture import json_report, terminal
from torture.errors import TortureError, UsageError
from torture.runner import Runner, plan
from torture.target import load

_EPILOG = """\
The exit status is 0 if no claimed case failed, 1 if one did, and 2 if the run was not possible.

examples:
  torture run --target torture/targets/holdline.toml
  torture run --target my-server.toml --case resume --case 'kill.*.stream' --html report.html
  torture run --target my-server.toml --list
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    options = _parser().parse_args(argv)
    try:
        return asyncio.run(_run(options))
    except TortureError as error:
        print(f"torture: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="torture",
        description="Tests what a server of the Responses API does under faults.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run the cases against a target")
    run.add_argument("--target", type=Path, required=True, metavar="FILE", help="a target file")
    run.add_argument(
        "--case", action="append", default=[], metavar="GLOB", help="a case, a group, or a pattern"
    )
    run.add_argument("--seed", type=int, default=1, help="of prompts, answers and random moments")
    run.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the file"
    )
    run.add_argument("--all", action="store_true", help="also run cases that are not claimed")
    run.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    run.add_argument("--list", action="store_true", help="list the cases, and run none")
    return parser


async def _run(options: argparse.Namespace) -> int:
    target = load(options.target, _parameters(options.set))
    plans = plan(target, options.case)
    if options.list:
        terminal.show_plan(plans)
        return 0
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    progress = terminal.Progress(len(plans))
    runner = Runner(
        target,
        options.seed,
        cache / "torture" / target.key,
        run_all=options.all,
        watch=progress.show,
    )
    report = await runner.run(plans)
    terminal.show_report(report)
    if options.json:
        json_report.write(report, options.json)
    return 1 if report.failed else 0


def _parameters(words: Sequence[str]) -> dict[str, str]:
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"--set {word}: must have the form NAME=VALUE")
        found[name] = value
    return found


def run_and_exit() -> None:
    """Is the command `torture`."""
    sys.exit(main())
