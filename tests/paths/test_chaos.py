"""Random faults against a whole system; and the checker sees what it is there to see."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dev.pdeathsig import with_pdeathsig
from tests.chaos.sabotage import SABOTAGES

ROOT = Path(__file__).parent.parent.parent
VIOLATIONS = re.compile(r"^violations +\d+(.*)$", re.MULTILINE)


def chaos(*arguments: str) -> tuple[int, str]:
    """What `make chaos` ends with, and what it prints."""
    argv, set_pdeathsig = with_pdeathsig(
        [sys.executable, "tests/chaos", *arguments], signal.SIGKILL
    )
    done = subprocess.run(
        argv,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
        check=False,
        preexec_fn=set_pdeathsig,
    )
    return done.returncode, done.stdout


@pytest.mark.timeout(120)
def test_every_promise_is_kept_under_random_faults() -> None:
    """The report names the seed, and the nightly runs take other seeds for longer."""
    status, report = chaos("--seed", str(random.randrange(1_000_000)), "--seconds", "15")
    print(report)
    assert 0 == status, report


# `tests/chaos/test_checker.py` shows the checker each violation without a run.
@pytest.mark.timeout(350)
@pytest.mark.parametrize(
    ("what", "broken"),
    [
        # What a zombie spoils depends on when it wakes.
        pytest.param("fence", {"I1", "I2", "I3", "I5"}, marks=pytest.mark.heavy),
        ("seen", {"I5"}),
        pytest.param("gap", {"I4"}, marks=pytest.mark.heavy),
        pytest.param("compare", {"I1"}, marks=pytest.mark.heavy),
    ],
)
def test_the_checker_is_red_when_a_line_of_defence_is_switched_off(
    what: str, broken: set[str]
) -> None:
    """Faults are random: one run in three may have had none that the missing line was for."""
    report = ""
    for seed in ("1", "2", "3"):
        status, report = chaos("--seed", seed, "--seconds", "14", "--sabotage", what)
        found = VIOLATIONS.search(report)
        assert found is not None, report
        seen = set(re.findall(r"I\d+", found[1]))
        assert bool(seen) == bool(status), report
        if broken & seen:
            return
    pytest.fail(f"nothing of {broken} was seen without {what}:\n{report}")


@pytest.mark.parametrize("what", sorted(SABOTAGES))
def test_a_sabotage_still_fits_the_code(what: str) -> None:
    """In a process of its own, which it changes."""
    script = f"from tests.chaos.sabotage import SABOTAGES; SABOTAGES[{what!r}][0]()"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=50, check=True)
