"""The command line."""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

from torture import html_report, json_report, results, terminal
from torture.errors import TortureError, UsageError
from torture.runner import Plan, Runner, plan
from torture.target import load, with_time_factor

# The exit status after a signal.
_STOPPED: Final = 130
_MIN_FACTOR: Final = 0.1
_MAX_FACTOR: Final = 100
_EPILOG: Final = """\
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
        return asyncio.run(_until_stopped(_run(options)))
    except (TortureError, OSError) as error:
        print(f"torture: {error}", file=sys.stderr)
        return 2


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
    run.add_argument(
        "--time-factor", type=_factor, default=1, metavar="N", help="wait longer on a slow machine"
    )
    run.add_argument("--all", action="store_true", help="also run cases that are not claimed")
    run.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    run.add_argument("--html", type=Path, metavar="FILE", help="write the results as a page")
    run.add_argument(
        "--results", type=Path, metavar="FOLDER", help="store the results for the command table"
    )
    run.add_argument("--list", action="store_true", help="list the cases, and run none")
    table = commands.add_parser("table", help="write the tables of stored results into a page")
    table.add_argument("--results", type=Path, required=True, metavar="FOLDER")
    table.add_argument("--page", type=Path, required=True, metavar="FILE")
    return parser


async def _until_stopped(run: Coroutine[Any, Any, int]) -> int:
    """Runs to the end, or until a signal. The processes of the target are stopped in both cases."""
    task = asyncio.ensure_future(run)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return _STOPPED


async def _run(options: argparse.Namespace) -> int:
    if options.command == "table":
        results.update(options.page, results.load(options.results))
        return 0
    if options.results and (options.case or options.all):
        raise UsageError("--results stores whole runs only, without --case and --all")
    target = with_time_factor(load(options.target, _parameters(options.set)), options.time_factor)
    plans = plan(target, options.case)
    if options.list:
        terminal.show_plan(plans)
        return 0
    _check_runnable(plans, run_all=options.all)
    for path in (options.json, options.html):
        if path and not path.resolve().parent.is_dir():
            raise UsageError(f"{path} cannot be written: {path.parent} is not a folder")
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
    if options.html:
        html_report.write(report, options.html)
    if options.results:
        results.store(report, options.results)
    return 1 if report.failed else 0


def _check_runnable(plans: Sequence[Plan], *, run_all: bool) -> None:
    """Checks that at least one case will run.

    Raises:
        UsageError: no case would run.
    """
    wanted = [one for one in plans if run_all or one.claim]
    if not wanted:
        raise UsageError("the target claims none of the chosen cases; --all runs them too")
    if all(one.missing for one in wanted):
        missing = ", ".join(sorted({need for one in wanted for need in one.missing}))
        raise UsageError(f"no case is possible, because the target does not offer: {missing}")


def _factor(word: str) -> float:
    try:
        factor = float(word)
    except ValueError:
        factor = math.nan
    if not _MIN_FACTOR <= factor <= _MAX_FACTOR:
        raise argparse.ArgumentTypeError(
            f"must be a number between {_MIN_FACTOR:g} and {_MAX_FACTOR:g}, not {word!r}"
        )
    return factor


def _parameters(words: Sequence[str]) -> dict[str, str]:
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"--set {word}: must have the form NAME=VALUE")
        found[name] = value
    return found


def run_and_exit() -> None:
    """Runs the command `torture`, and ends the process with its exit status."""
    sys.exit(main())
