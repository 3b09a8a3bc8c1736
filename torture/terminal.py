"""Shows the cases, the progress and the results on a terminal."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Final

from torture.case import Case
from torture.runner import Plan, Report, Result, Verdict

_COLOURS: Final = {
    Verdict.PASSED: "\x1b[32m",
    Verdict.FAILED: "\x1b[31m",
    Verdict.ERROR: "\x1b[35m",
}
_RESET: Final = "\x1b[0m"


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
        line = f"{number:<9} {_coloured(result.verdict):<13} {case.id:<34}"
        seconds = f"{result.seconds:6.1f} s" if result.seconds else ""
        print(f"{line} {seconds}".rstrip(), flush=True)
        if result.verdict in {Verdict.FAILED, Verdict.ERROR}:
            print(f"          {result.reason.partition(chr(10))[0][:150]}", flush=True)


def show_report(report: Report) -> None:
    """Prints the failed cases with their reasons, and the counts."""
    for result in report.failed:
        print(f"\n{_coloured(result.verdict)} {result.case.id} ({result.weight})")
        print(f"  claim:    {result.case.claim}")
        if result.claim:
            print(f"  promised: {result.claim.url}")
        print("  reason:   " + result.reason.replace("\n", "\n            "))
    counts = Counter(result.verdict for result in report.results)
    version = f" {report.version}" if report.version else ""
    print(f"\n{report.target.name}{version}, seed {report.seed}: ", end="")
    print(", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict]))


def _coloured(verdict: Verdict) -> str:
    colour = _COLOURS.get(verdict, "") if sys.stdout.isatty() else ""
    return f"{colour}{verdict}{_RESET}" if colour else verdict
