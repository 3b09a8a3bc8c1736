from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bench import report
from bench.figures import Bound, Measure, Outcome, Spread, short

CANNED = json.loads((Path(__file__).parent / "canned.json").read_bytes())


def a_measure() -> Measure:
    return Measure(
        name="P3",
        title="The queue",
        sizes={"quick": {"jobs": 10}},
        units={"rate": "jobs/s"},
        bounds=(
            Bound(
                "against BullMQ", lambda one: one["ours"]["rate"] / one["BullMQ"]["rate"], least=6
            ),
            Bound("cost", lambda one: one["ours"]["cost"], unit="µs", most=10),
            Bound("against saq", lambda one: one["ours"]["rate"] / one["saq"]["rate"], least=25),
        ),
        open=NotImplemented,
    )


def an_outcome() -> Outcome:
    rounds = [
        {"ours": {"rate": rate, "cost": cost}, "BullMQ": {"rate": 100.0}}
        for rate, cost in ((500.0, 12.0), (700.0, 9.0), (800.0, 11.0))
    ]
    about = {key: CANNED[key] for key in ("date", "commit", "load_before", "machine", "versions")}
    return Outcome(a_measure(), "quick", rounds, {"saq": "make bench installs it"}, about)


def test_a_ratio_is_computed_per_round_and_its_median_is_judged() -> None:
    found = report.result(an_outcome())
    assert {"median": 7, "min": 5, "max": 8} == found["bounds"][0]["value"]
    assert [True, False, None] == [bound["holds"] for bound in found["bounds"]]
    assert {"median": 700, "min": 500, "max": 800} == found["figures"]["ours"]["rate"]


def test_a_missing_peer_is_reported_as_not_measured() -> None:
    found = report.result(an_outcome())
    assert found["bounds"][2]["value"] is None
    assert "left out: saq: make bench installs it" in report.for_terminal(found)
    assert "| P3 | against saq | not measured | ≥ 25 | no peer |" in report.for_document([found])


def test_the_page_shows_the_figures_of_the_json_result() -> None:
    text = report.for_document([CANNED])
    assert "| P3 | against BullMQ | 7.00 (5.00 to 8.00) | ≥ 6 | holds | quick, 3 |" in text
    assert "| P3 | cost | 11.0 (9.00 to 12.0) | ≤ 10 | **behind** | quick, 3 |" in text
    assert "| ours | 700 (500 to 800) | 11.0 (9.00 to 12.0) |" in text
    assert "2 cores of Some Processor" in text
    assert "The load average before each measure was 0.5 to 0.5." in text
    assert "Measured with a small size, which gives only an estimate: P3." in text
    assert "while other programs used" not in text
    busy = report.for_document([{**CANNED, "load_before": 2.1}])
    assert (
        "Measured while other programs used the machine, so that delays are unreliable: P3." in busy
    )


def test_kept_results_are_returned_in_the_order_of_the_measures(tmp_path: Path) -> None:
    for name in ("P10", "P3"):
        report.keep({**CANNED, "name": name}, tmp_path)
    assert ["P3", "P10"] == [one["name"] for one in report.kept(tmp_path)]


def test_only_the_text_between_the_markers_is_replaced() -> None:
    page = f"before {report.BEGIN} old {report.END} after"
    made = report.between_markers(page, "new")
    assert f"before {report.BEGIN}\n\nnew\n\n{report.END} after" == made
    with pytest.raises(ValueError, match="markers"):
        report.between_markers("no markers", "new")


def test_the_performance_page_is_up_to_date_with_the_kept_results() -> None:
    page = report.DOCUMENT.read_text(encoding="utf-8")
    assert report.between_markers(page, report.for_document(report.kept(report.RESULTS))) == page


def test_the_performance_page_explains_each_missed_bound() -> None:
    page = report.DOCUMENT.read_text(encoding="utf-8")
    reasons = page.split("## Where we are behind\n")[1].split("\n## ", maxsplit=1)[0]
    behind = {
        one["name"]
        for one in report.kept(report.RESULTS)
        for bound in one["bounds"]
        if bound["holds"] is False
    }
    assert set() == behind - set(re.findall(r"P\d+", reasons))


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.01234, "0.0123"), (1.5, "1.50"), (42.42, "42.4"), (1234567, "1 230 000")],
)
def test_numbers_are_shown_with_three_significant_figures(value: float, shown: str) -> None:
    assert shown == short(value)


def test_a_spread_has_a_median_a_minimum_and_a_maximum() -> None:
    assert Spread(2, 1, 9) == Spread.of([9, 1, 2])
