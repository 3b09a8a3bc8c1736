"""Shows the cases, the progress and the results on a terminal."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from typing import Final

from torture.case import Case
from torture.result import Report, Result, Verdict
from torture.runner import Plan

_COLOURS: Final = {
    Verdict.PASSED: "\x1b[32m",
    Verdict.FAILED: "\x1b[31m",
    Verdict.ERROR: "\x1b[35m",
}
_RESET: Final = "\x1b[0m"
# Limits of the output of a process below a failed case.
_SHOWN_LINES: Final = 8
_SHOWN_CHARACTERS: Final = 150


def show_plan(plans: Sequence[Plan]) -> None:
    """Prints the cases, which of them the target claims, and missing needs."""
    for one in plans:
        state = "claimed" if one.claim else "not claimed"
        if one.missing:
            state += f"; needs {', '.join(sorted(one.missing))}"
        print(f"{one.case.id:<34} {one.case.weight:<14} {state}\n    {one.case.claim}")


class Progress:
    """Prints a line for each case, and on a terminal the running case."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._number = 0

    def show(self, case: Case, result: Result | None) -> None:
        """Shows that a case begins, or its result."""
        if result is None:
            if sys.stdout.isatty():
                print(f"[{self._number + 1}/{self._count}] {case.id} ...", end="\r", flush=True)
            return
        self._number += 1
        number = f"[{self._number}/{self._count}]"
        seconds = f"{result.seconds:6.1f} s" if result.seconds else ""
        line = f"{number:<9} {_coloured(result.verdict, 13)} {case.id:<34} {seconds}".rstrip()
        print(f"{line}   ({result.without_claim})" if result.if_claimed else line, flush=True)
        if result.bad:
            print(f"          {_first_line(result)[:150]}", flush=True)


def show_report(report: Report) -> None:
    """Prints the failed cases with their reasons, the cases without a claim, and the counts."""
    for result in report.failed:
        print(f"\n{_coloured(result.verdict)} {result.case.id} ({result.weight})")
        print(f"  claim:    {result.case.claim}")
        if result.claim:
            print(f"  promised: {result.claim.url}")
        print("  reason:   " + result.reason.replace("\n", "\n            "))
        _show_output(result)
    if report.tried:
        _show_tried(report)
    version = f" {report.version}" if report.version else ""
    print(f"\n{report.target.name}{version}, seed {report.seed}: {report.counts()}")


def _show_tried(report: Report) -> None:
    print("\nThe target does not claim these cases, so they have no verdict:")
    passing = [one.case.id for one in report.tried if one.if_claimed is Verdict.PASSED]
    if passing:
        wrapped = textwrap.wrap(" ".join(passing), 80, break_on_hyphens=False)
        print("  would pass     " + "\n                 ".join(wrapped))
    for result in report.tried:
        if result.bad:
            print(f"  {result.without_claim:<14} {result.case.id}: {_first_line(result)[:150]}")


def _show_output(result: Result) -> None:
    for name, lines in result.output.items():
        if lines:
            hidden = max(0, len(lines) - _SHOWN_LINES)
            more = f", without {hidden} earlier lines" if hidden else ""
            print(f"  output of {name}{more}:")
            for line in lines[-_SHOWN_LINES:]:
                print(f"    | {line[:_SHOWN_CHARACTERS]}")


def _first_line(result: Result) -> str:
    return result.reason.strip().partition("\n")[0]


def _coloured(verdict: Verdict, width: int = 0) -> str:
    colour = _COLOURS.get(verdict, "") if sys.stdout.isatty() else ""
    return f"{colour}{verdict:<{width}}{_RESET}" if colour else f"{verdict:<{width}}"
