"""Runs the suite against Holdline: a case of each kind in the gate, and all cases at night."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.checkout

ROOT = Path(__file__).parent.parent.parent
# One case for each part of the system that can lose an answer.
CASES = (
    *("stream.complete", "stream.live", "foreground.complete"),
    *("resume.every_event", "resume.other_server", "resume.second_device"),
    *("duplicate.at_once", "duplicate.sdk_retry"),
    *("cancel.closes_call", "cancel.at_end"),
    *("truncation.cut.stream", "provider.rejected.poll", "retry.rate_limit.foreground"),
    *("kill.worker.middle.stream", "kill.server.middle.stream", "restart.server.stream"),
    *("restart.store.poll", "freeze.worker.stream"),
    *("chain.context", "conversation.two_writers"),
    *("websocket.lanes", "steer.committed", "chat.stream"),
)


def torture(tmp_path: Path, *arguments: str, seconds: float) -> list[dict[str, str]]:
    """Runs the suite, which must pass, and returns its results."""
    path = tmp_path / "results.json"
    # The processes of the target share the cores with other tests.
    options = ["--json", str(path), "--time-factor", "3", "--set", f"python={sys.executable}"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torture", "run"),
            *("--target", "torture/targets/holdline.toml", *options, *arguments),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    results: list[dict[str, str]] = json.loads(path.read_text())["results"]
    return results


@pytest.mark.timeout(300)
def test_the_chosen_cases_pass(tmp_path: Path) -> None:
    chosen = [word for case in CASES for word in ("--case", case)]
    results = torture(tmp_path, *chosen, seconds=290)
    assert {(case, "passed") for case in CASES} == {(r["case"], r["verdict"]) for r in results}


@pytest.mark.heavy
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("seed", ["1", "2"])
def test_all_claimed_cases_pass(tmp_path: Path, seed: str) -> None:
    results = torture(tmp_path, "--seed", seed, seconds=2390)
    assert {"passed"} == {result["verdict"] for result in results}
