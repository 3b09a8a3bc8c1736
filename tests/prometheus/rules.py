"""The rules and dashboards for Prometheus, as the tests read them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from tests.system import ROOT

CONFIG = ROOT / "deploy/prometheus/prometheus.yml"
RULES = ROOT / "deploy/prometheus/rules.yml"
DASHBOARDS = sorted((ROOT / "deploy/grafana").glob("*.json"))
_RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]
RECORDS = [rule for rule in _RULES if "record" in rule]
ALERTS = [rule for rule in _RULES if "alert" in rule]


def queries() -> Iterator[tuple[Path, str, str]]:
    """Yields the file, the title of the panel and the expression of each query."""
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield path, panel["title"], target["expr"]
