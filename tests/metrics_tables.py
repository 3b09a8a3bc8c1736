"""Prints the tables of all metrics for docs/watch.md: python -m tests.metrics_tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runtime.metrics import markdown
from server import metrics as server_metrics
from server import service_metrics
from worker import metrics as worker_metrics

if TYPE_CHECKING:
    from runtime.metrics import Metric

# The tables by their headings in the document.
TABLES: Final[dict[str, tuple[Metric, ...]]] = {
    "Metrics of servers": server_metrics.ALL,
    "Metrics of workers": worker_metrics.ALL,
    "Metrics of the service": service_metrics.ALL,
    "Metrics of servers and workers": server_metrics.COMMON,
}

if __name__ == "__main__":
    for heading, metrics in TABLES.items():
        print(f"### {heading}\n\n{markdown(metrics)}\n")
