"""Prints the alerts of `deploy/prometheus/rules.yml` as an object of the Prometheus Operator.

    python -m dev.prometheus_rule > deploy/kubernetes/components/monitoring/prometheus-rule.yaml

Kustomize reads no file outside of its own folder, so the object is committed. A test fails if the
rules change and the object does not.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Final

RULES: Final = Path(__file__).parents[1] / "deploy/prometheus/rules.yml"
HEAD: Final = """\
# `python -m dev.prometheus_rule` makes this file from deploy/prometheus/rules.yml. Do not edit it.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: holdline
  namespace: holdline
spec:
"""


def prometheus_rule() -> str:
    """Returns the object in YAML. Its `spec` is the file of rules without its first comments."""
    rules = RULES.read_text(encoding="utf-8")
    return HEAD + textwrap.indent(rules[rules.index("groups:") :], "  ")


if __name__ == "__main__":
    print(prometheus_rule(), end="")
