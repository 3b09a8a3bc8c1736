"""Injects faults into real processes and checks Holdline's promises.

Exits with 1 on a violation.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from pathlib import Path

HERE = Path(__file__).parent
# Python puts the program's folder first on the import path. There, the folder's modules could hide
# other modules with the same names.
sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != HERE.resolve()]

REPORTS = HERE.parent.parent / "chaos-report"


def main() -> int:
    """Returns the exit status."""
    from tests.chaos.checker import check
    from tests.chaos.profiles import PROFILES
    from tests.chaos.report import keep, lines
    from tests.chaos.run import run, work_folder
    from tests.chaos.sabotage import SABOTAGES

    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--loss", action="store_true", help="make Redis lose acknowledged writes")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="usual")
    parser.add_argument("--sabotage", choices=sorted(SABOTAGES), default="")
    parser.add_argument(
        "--keep", action="store_true", help="keep the report even without a violation"
    )
    chosen = parser.parse_args()
    profile = "loss" if chosen.loss else chosen.profile
    if chosen.sabotage:
        switch_off, profile = SABOTAGES[chosen.sabotage]
        # Change the scripts in this process too, because the faults identify scripts by their
        # SHA1.
        switch_off()
    print(f"seed {chosen.seed}, {chosen.seconds:g} s, {profile}", flush=True)
    with work_folder() as work:
        running = run(
            chosen.seed,
            chosen.seconds,
            profile=profile,
            sabotage=chosen.sabotage,
            folder=Path(work),
        )
        result = asyncio.run(running)
        verdict = check(result.history)
        report = lines(chosen.seed, chosen.seconds, profile, result, verdict)
        print("\n".join(report[1:]), flush=True)
        wrong = bool(verdict.violations or result.anomalies)
        if (wrong and not chosen.sabotage) or chosen.keep:
            folder = REPORTS / f"{profile.replace(' ', '-')}-{chosen.seed}"
            keep(folder, Path(work), report, result)
            print(f"the full report is in {folder.parent.name}/{folder.name}")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
