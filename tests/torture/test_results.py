"""Tests the reports and the tables of stored results."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.torture.target_text import VALID
from torture import html_report, json_report, results, terminal
from torture.cases import all_cases
from torture.errors import UsageError
from torture.result import Report, Result, Verdict
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
        claim = None if verdict is Verdict.NOT_CLAIMED else target.claims[0]
        found.append(Result(case, verdict, claim, case.weight, reason, 1.5, calls=[2]))
    found[0].timeline.add("client 1", "sent", "POST /responses <script>")
    found[0].output = {"server 1": [f"line {n} <b>" for n in range(20)], "server 2": []}
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
    failed = all_cases()[1]
    assert f"| `{failed.id}` | {failed.weight} |" in text


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


def a_report_of_unclaimed_cases(tmp_path: Path) -> Report:
    report = a_report(tmp_path, 1, *[Verdict.NOT_CLAIMED] * 4)
    passing, failing, impossible, _ = report.results
    passing.if_claimed = PASSED
    failing.if_claimed, failing.reason = FAILED, "the <i>text</i> lacks a piece"
    failing.timeline.add("client 1", "sent", "POST /unclaimed")
    impossible.if_claimed, impossible.reason = Verdict.IMPOSSIBLE, "the target has no pieces"
    return report


def test_the_results_of_unclaimed_cases_are_shown_and_are_no_verdicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = a_report_of_unclaimed_cases(tmp_path)
    assert [] == report.failed
    terminal.show_report(report)
    shown = capsys.readouterr().out
    counts = "4 not claimed (1 would pass, 1 would fail, 1 not possible)"
    assert f"seed 1: {counts}\n" in shown
    assert "would pass     stream.complete" in shown
    failing = report.results[1].case.id
    assert f"would fail     {failing}: the <i>text</i> lacks a piece" in shown
    path = tmp_path / "report"
    html_report.write(report, path)
    text = path.read_text()
    assert counts in text
    assert "<h2>Failed cases</h2>" not in text
    assert "would fail" in text
    assert "POST /unclaimed" in text
    assert 'class="failed"' not in text
    assert 'class="passed"' not in text
    json_report.write(report, path)
    written = json.loads(path.read_text())["results"]
    assert {"not claimed"} == {one["verdict"] for one in written}
    found = [one.get("if_claimed") for one in written]
    assert ["passed", "failed", "not possible", None] == found
    assert ["client 1", "sent", "POST /unclaimed"] == written[1]["timeline"][0][1:]


def test_the_progress_shows_the_result_of_an_unclaimed_case(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = terminal.Progress(4)
    for result in a_report_of_unclaimed_cases(tmp_path).results:
        progress.show(result.case, result)
    first, second, reason, third, fourth = capsys.readouterr().out.splitlines()
    assert first.endswith("(would pass)")
    assert second.endswith("(would fail)")
    assert reason.endswith("lacks a piece")
    assert third.endswith("(not possible)")
    assert "(" not in fourth
    assert all("not claimed" in line for line in (first, second, third, fourth))


def test_the_output_of_processes_is_shown_below_a_failed_case(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = a_report(tmp_path, 1, FAILED, PASSED)
    terminal.show_report(report)
    shown = capsys.readouterr().out
    assert "output of server 1, without 12 earlier lines:" in shown
    assert "line 11" not in shown
    assert "| line 12 <b>\n" in shown
    assert "server 2" not in shown
    path = tmp_path / "report"
    html_report.write(report, path)
    text = path.read_text()
    assert "Output of server 1" in text
    assert "line 0 &lt;b&gt;\nline 1" in text
    assert "No output: server 2" in text
    json_report.write(report, path)
    output = json.loads(path.read_text())["results"][0]["output"]
    assert 20 == len(output["server 1"])
    assert "output" not in results.store(report, tmp_path).read_text()


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
