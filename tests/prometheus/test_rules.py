"""Tests the configuration, rules and dashboards for Prometheus, and the runbook of the alerts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest

from command.root import holdline
from server.api.problem import STANDARD_CODES
from server.metrics import Metrics
from tests.metrics_tables import TABLES
from tests.paths.documents import ROOT, blocks
from tests.prometheus.rules import ALERTS, CONFIG, DASHBOARDS, RECORDS, RULES, queries
from worker.metrics import RECOVERY_STEPS, WorkerMetrics

RUNBOOK = (ROOT / "docs/runbook.md").read_text()
UNIT_TESTS = ROOT / "tests/prometheus/rules_test.yml"
# The names of all series: those of a histogram have further suffixes.
SERIES = {
    name
    for metrics in TABLES.values()
    for metric in metrics
    for name in (
        [f"{metric.name}_{suffix}" for suffix in ("bucket", "sum", "count")]
        if metric.kind == "histogram"
        else [metric.name]
    )
}
LABELS = {label for metrics in TABLES.values() for metric in metrics for label in metric.labels}
EXPRESSIONS = [
    *((rule["record"], rule["expr"]) for rule in RECORDS),
    *((rule["alert"], rule["expr"]) for rule in ALERTS),
    *((f"{path.stem}: {title}", query) for path, title, query in queries()),
]


def promtool(*arguments: str) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed; it belongs to the package prometheus")
    done = subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True, timeout=50, check=False
    )
    assert 0 == done.returncode, done.stdout + done.stderr


def test_promtool_accepts_the_configuration_and_the_rules() -> None:
    promtool("check", "config", str(CONFIG))
    promtool("check", "rules", str(RULES))


def test_each_alert_fires_for_its_fault_and_not_without_it(tmp_path: Path) -> None:
    path = tmp_path / "rules_test.yml"
    path.write_text(UNIT_TESTS.read_text().replace("[RULES]", f"[{RULES}]"))
    promtool("test", "rules", str(path))


def test_the_unit_tests_cover_each_alert() -> None:
    tested = set(re.findall(r'alertname="(\w+)"', UNIT_TESTS.read_text()))
    assert tested == {rule["alert"] for rule in ALERTS}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_each_alert_has_an_entry_in_the_runbook(rule: dict[str, Any]) -> None:
    url = rule["annotations"]["runbook_url"]
    page, _, anchor = url.partition("#")
    assert page.endswith("/docs/runbook")
    [entry] = [
        part
        for part in RUNBOOK.split("\n## ")[1:]
        if part.partition("\n")[0].lower().replace(" ", "-") == anchor
    ]
    assert entry.split("\n\n")[1].startswith(f"`{rule['alert']}`: ")
    assert "```sh\n" in entry, "says what to type"
    assert "\nThe problem is over " in entry
    assert f"(#{anchor})" in RUNBOOK.partition("\n## ")[0]
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["for"]


def test_the_runbook_has_no_other_entries() -> None:
    entries = re.findall(r"^`(Holdline\w+)`: ", RUNBOOK, re.MULTILINE)
    assert entries == [rule["alert"] for rule in ALERTS]


def test_the_commands_of_the_runbook_exist() -> None:
    names = set(re.findall(r"\bholdline ([a-z]+)", "\n".join(blocks(RUNBOOK, "sh"))))
    assert {"status", "dead", "keys", "tenants", "check"} <= names
    assert names <= set(holdline.list_commands(click.Context(holdline)))
    for name in re.findall(r"holdline_\w+|gen_ai_\w+|process_\w+", RUNBOOK):
        assert any(series.startswith(name) for series in SERIES), name
    assert blocks(RUNBOOK, "sh")


@pytest.mark.parametrize(("name", "expression"), EXPRESSIONS)
def test_an_expression_uses_only_metrics_and_labels_that_exist(name: str, expression: str) -> None:
    known = SERIES | {rule["record"] for rule in RECORDS} | {"up"}
    used = set(re.findall(r"[a-z_]+:\w+:\w+|\b(?:holdline|gen_ai|process)_\w+|\bup\b", expression))
    assert used - LABELS
    assert used - LABELS <= known
    grouped = re.findall(r"by \(([^)]*)\)", expression)
    selected = re.findall(r"(\w+)(?:=~|!=|!~|=)\"", expression)
    labels = {label.strip() for group in grouped for label in group.split(",")} | {*selected}
    assert labels <= LABELS | {"job", "instance", "le", ""}


def test_a_series_whose_increase_is_an_alert_exists_from_the_start() -> None:
    """Prometheus does not see the first increase of a series that appears with it."""
    budgets: set[tuple[str, ...]] = {
        (code,) for code in STANDARD_CODES if re.match("(token|money)_budget_", code)
    }
    expected: dict[str, set[tuple[str, ...]]] = {
        "holdline_redis_failures_total": {("RedisFull",)},
        "holdline_refused_total": budgets,
        "holdline_leases_lost_total": {("taken",)},
        "holdline_late_renewals_total": {()},
        "holdline_webhook_attempts_total": {("abandoned",)},
        "holdline_recoveries_total": {("m", step) for step in RECOVERY_STEPS},
        "holdline_attempts_total": {("m", "stop")},
        "gen_ai_client_operation_duration_seconds": {("chat", "openai", "m", "")},
        # The worker's router adds these: see tests/worker/test_metrics.py.
        "holdline_model_key_failures_total": set(),
    }
    rates = r"(?:increase|rate)\((\w+?)(?:_count|(_bucket))?[{\[]"
    found = (pair for rule in (*ALERTS, *RECORDS) for pair in re.findall(rates, rule["expr"]))
    assert set(expected) == {name for name, bucket in found if not bucket}
    totals = WorkerMetrics({"m"}).registry.state().totals | Metrics().registry.state().totals
    for name, series in expected.items():
        assert series <= set(totals.get(name, {})), name


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_has_a_valid_layout(path: Path) -> None:
    found = json.loads(path.read_text())
    assert found["uid"] == f"holdline-{path.stem}"
    panels = found["panels"]
    assert len({panel["title"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["datasource"]["uid"] == "${datasource}"


def test_each_metric_is_in_a_dashboard_or_an_alert() -> None:
    shown = " ".join(expression for _, expression in EXPRESSIONS)
    unused = {
        metric.name
        for metrics in TABLES.values()
        for metric in metrics
        if not re.search(rf"\b{metric.name}(_bucket|_sum|_count)?\b", shown)
    }
    # These have no panel, because another one shows the same fault earlier.
    assert unused == {
        "holdline_tasks",
        "holdline_held_bytes",
        "holdline_sockets_closed_slow_total",
        "process_max_fds",
        "process_start_time_seconds",
    }
