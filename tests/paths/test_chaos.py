"""Injects random faults into a complete system, and proves that the checker detects violations."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from command.up.pdeathsig import with_pdeathsig
from tests.chaos.sabotage import SABOTAGES

ROOT = Path(__file__).parent.parent.parent
VIOLATIONS = re.compile(r"^violations +\d+(.*)$", re.MULTILINE)


def chaos(*arguments: str) -> tuple[int, str]:
    """Runs `make chaos` and returns its exit status and output."""
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
def test_random_faults_break_no_promise() -> None:
    """The report names the seed. Nightly runs take longer and use other seeds."""
    status, report = chaos("--seed", str(random.randrange(1_000_000)), "--seconds", "15")
    print(report)
    assert 0 == status, report


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "profile",
    [
        pytest.param("background", marks=pytest.mark.heavy),
        pytest.param("upgrade", marks=[pytest.mark.checkout, pytest.mark.heavy]),
        pytest.param("continuing", marks=pytest.mark.heavy),
        pytest.param("rude", marks=pytest.mark.heavy),
    ],
)
def test_dead_workers_and_lost_connections_cost_no_output(profile: str) -> None:
    """With a rude endpoint, output may be lost, but it is never joined wrongly.

    In the profile `upgrade`, processes are replaced by those of another version and back.
    """
    seed = str(random.randrange(1_000_000))
    status, report = chaos("--seed", seed, "--seconds", "20", "--profile", profile)
    print(report)
    assert 0 == status, report


@pytest.mark.heavy
@pytest.mark.timeout(120)
def test_devices_that_follow_conversations_miss_and_repeat_no_event() -> None:
    seed = str(random.randrange(1_000_000))
    status, report = chaos("--seed", seed, "--seconds", "20", "--profile", "conversations")
    print(report)
    assert 0 == status, report


@pytest.mark.heavy
@pytest.mark.timeout(120)
@pytest.mark.parametrize("profile", ["moving", "cluster"])
def test_a_cluster_whose_slots_and_masters_change_breaks_no_promise(profile: str) -> None:
    seed = str(random.randrange(1_000_000))
    status, report = chaos("--seed", seed, "--seconds", "20", "--profile", profile)
    print(report)
    assert 0 == status, report


# Without a chaos run, `tests/chaos/test_checker.py` and `test_device_rules.py` test
# the checker with each violation.
@pytest.mark.timeout(350)
@pytest.mark.parametrize(
    ("what", "broken"),
    [
        # The detected violation depends on the time at which the suspended worker resumes.
        pytest.param("fence", {"I1", "I2", "I3", "I5"}, marks=pytest.mark.heavy),
        pytest.param("seen", {"I5"}, marks=pytest.mark.heavy),
        pytest.param("gap", {"I4"}, marks=pytest.mark.heavy),
        pytest.param("compare", {"I1"}, marks=pytest.mark.heavy),
        pytest.param("resume", {"D1"}, marks=pytest.mark.heavy),
    ],
)
def test_the_checker_detects_a_disabled_defence(what: str, broken: set[str]) -> None:
    """Repeats the run up to three times, because random faults may miss the disabled defence."""
    report = ""
    for seed in ("1", "2", "3"):
        status, report = chaos("--seed", seed, "--seconds", "14", "--sabotage", what)
        found = VIOLATIONS.search(report)
        assert found is not None, report
        seen = set(re.findall(r"[DI]\d+", found[1]))
        assert bool(seen) == bool(status), report
        if broken & seen:
            return
    pytest.fail(f"none of {broken} was detected without {what}:\n{report}")


@pytest.mark.parametrize("what", sorted(SABOTAGES))
def test_a_sabotage_can_still_be_applied(what: str) -> None:
    """Runs in a separate process, because the sabotage patches modules."""
    script = f"from tests.chaos.sabotage import SABOTAGES; SABOTAGES[{what!r}][0]()"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=50, check=True)
