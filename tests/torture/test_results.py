"""Tests the reports and the tables of stored results."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.torture.target_text import VALID
from torture import html_report, results, terminal
from torture.cases import all_cases
from torture.errors import UsageError
from torture.runner import Report, Result, Verdict
from torture.target import load
from torture.timeline import PIECE, Timeline

PASSED, FAILED = Verdict.PASSED, Verdict.FAILED


def a_report(tmp_path: Path, seed: int, *verdicts: Verdict) -> Report:
    path = tmp_path / "mine.toml"
    path.write_text(VALID)
    target = load(path)
    found = []
    for case, verdict in zip(all_cases(), verdicts, strict=False):
        reason = "the <b>text</b> | lacks a piece" if verdict is FAILED else ""
        found.append(Result(case, verdict, target.claims[0], case.weight, reason, 1.5, [2]))
    found[0].timeline.add("client 1", "sent", "POST /responses <script>")
    return Report(target, "1.2", seed, datetime(2026, 11, 30, tzinfo=UTC), found)


def test_the_worst_of_two_runs_is_shown(tmp_path: Path) -> None:
    folder, page = tmp_path / "results", tmp_path / "page.md"
    results.store(a_report(tmp_path, 1, PASSED, PASSED, PASSED), folder)
    results.store(a_report(tmp_path, 2, PASSED, FAILED, Verdict.NOT_CLAIMED), folder)
    page.write_text(f"before\n{results.BEGIN}\nold\n{results.END}\nafter\n")
    results.update(page, results.load(folder))
    text = page.read_text()
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| `stream` | **2 of 3** |" in text
    assert "Version 1.2, 2026-11-30, seeds 1, 2." in text
    assert r"the &lt;b>text&lt;/b> \| lacks a piece" in text
    assert "| `stream.live` | inconvenient |" in text


def test_a_page_without_marks_and_a_folder_without_results_are_rejected(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    with pytest.raises(UsageError, match="has no results"):
        results.load(folder)
    path = results.store(a_report(tmp_path, 1, PASSED), folder)
    page = tmp_path / "page.md"
    page.write_text("nothing")
    with pytest.raises(UsageError, match="lacks the lines"):
        results.update(page, results.load(folder))
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(UsageError, match="does not have the format"):
        results.load(folder)


@pytest.mark.parametrize("written", [b"{", b"[" * 99_999, b"\xff"])
def test_results_that_cannot_be_read_are_rejected(tmp_path: Path, written: bytes) -> None:
    (tmp_path / "mine-1.json").write_bytes(written)
    with pytest.raises(UsageError, match=r"mine-1\.json cannot be read"):
        results.load(tmp_path)


def test_the_page_of_a_run_escapes_what_servers_send(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    html_report.write(a_report(tmp_path, 1, FAILED, PASSED), path)
    text = path.read_text()
    assert "<script>" not in text
    assert "POST /responses &lt;script&gt;" in text
    assert "1 passed, 1 failed" in text


def test_the_terminal_shows_the_claim_and_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.show_report(a_report(tmp_path, 1, FAILED, PASSED))
    shown = capsys.readouterr().out
    assert "failed stream.complete (loses answers)" in shown
    assert "promised: https://example.com/streams" in shown
    assert "Mine 1.2, seed 1: 1 passed, 1 failed" in shown


def test_a_timeline_merges_pieces() -> None:
    timeline = Timeline()
    timeline.add("client 1", "sent", "POST /responses")
    for number in range(4, 9):
        timeline.add("client 1", "arrived", f"{PIECE}{number}")
    timeline.add("server", "fault", "killed")
    timeline.add("client 1", "arrived", f"{PIECE}9")
    texts = [entry.text for entry in timeline.merged()]
    assert ["POST /responses", "piece 4 ... 8 (5 pieces)", "killed", "piece 9"] == texts


ROOT = Path(__file__).parent.parent.parent
STORED = results.load(ROOT / "torture/results")


@pytest.mark.parametrize("column", STORED, ids=lambda column: column.name)
def test_the_stored_runs_of_a_target_agree(column: results.Column) -> None:
    verdicts = [{one["case"]: one["verdict"] for one in run["results"]} for run in column.runs]
    assert 2 <= len({run["seed"] for run in column.runs})
    assert all(one == verdicts[0] for one in verdicts)


def test_the_page_shows_the_stored_results() -> None:
    made = "\n".join(results.markdown(STORED))
    assert made in (ROOT / "docs/torture.md").read_text()
