"""Prints the tables of all metrics for docs/watch.md: python -m tests.metrics_tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import server.metrics
import server.service_metrics
import worker.metrics
from runtime.metrics import markdown

if TYPE_CHECKING:
    from runtime.metrics import Metric

# The tables by their headings in the document.
TABLES: Final[dict[str, tuple[Metric, ...]]] = {
    "Metrics of servers": server.metrics.ALL,
    "Metrics of workers": worker.metrics.ALL,
    "Metrics of the service": server.service_metrics.ALL,
    "Metrics of servers and workers": server.metrics.COMMON,
}

if __name__ == "__main__":
    for heading, metrics in TABLES.items():
        print(f"### {heading}\n\n{markdown(metrics)}\n")
