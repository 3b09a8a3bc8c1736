"""Simulates a fleet of workers: `python -m bench fleet --workers 1000 --jobs 100000`."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import sys
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from structlog.testing import capture_logs

from .clock import VirtualLoop
from .scenario import Size, percentiles, simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from .scenario import Report

T = TypeVar("T")


def run(size: Size, tell: Callable[[str], None]) -> Report:
    """Runs a simulation in an event loop with virtual time."""
    return in_virtual_time(simulate(size, tell))


def in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine in an event loop with virtual time, and returns its result.

    Raises: RuntimeError if a worker has logged an error, because its loops continue after errors,
    so a simulation that lacks a method of the real objects would omit their work.
    """
    # The warnings about rescued jobs would come once for each partition and renewal.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    random.seed(1)
    try:
        with capture_logs() as errors, asyncio.Runner(loop_factory=VirtualLoop) as runner:
            result = runner.run(main)
    finally:
        structlog.reset_defaults()
    if errors:
        raise RuntimeError(f"workers logged {len(errors)} errors; the first one: {errors[0]}")
    return result


def lines(size: Size, report: Report) -> Iterator[str]:
    """Yields the report as Markdown."""
    calls = ", ".join(f"{name} {count:g}" for name, count in sorted(report.idle_calls.items()))
    yield (
        f"{size.workers:,} workers with {size.concurrency} jobs each, {size.jobs:,} jobs, "
        f"{size.partitions} partitions: {report.seconds:,.0f} virtual seconds, "
        f"{report.machine_seconds:,.0f} s on this machine"
    )
    yield ""
    yield "| quantity | value |"
    yield "|---|---|"
    yield f"| calls per second of an idle worker | {calls} |"
    yield f"| Redis commands per second of an idle worker | {report.idle_commands:.1f} |"
    yield f"| Redis commands per job, workers idle | {report.commands:.1f} |"
    yield f"| wake-ups per job, workers idle | {report.wake_ups:.2f} |"
    yield f"| claims per job, workers idle | {report.claims:.2f} |"
    yield f"| claims without a job, per job, workers idle | {report.empty_claims:.2f} |"
    yield _times("start of a job, workers idle", report.trickle_waits)
    for name, waits in report.waits.items():
        yield _times(f"wait in the backlog, {name}", waits)
    mean = sum(report.shares.values()) / len(report.shares)
    low, high = min(report.shares.values()) / mean, max(report.shares.values()) / mean
    yield (
        "| tokens of a tenant divided by its weight, relative to the mean of all tenants "
        f"| {low:.2f} to {high:.2f} |"
    )
    died = f"after the death of {report.died} workers"
    if report.requeued:
        yield _times(f"{died}: {len(report.requeued):,} jobs queued again", report.requeued)
    if report.restarts:
        yield _times(f"{died}: next attempt of {len(report.restarts):,} jobs", report.restarts)
    yield (
        f"| jobs finished / lost / finished twice "
        f"| {report.finished:,} / {report.lost} / {report.repeated} |"
    )


def _times(what: str, seconds: list[float]) -> str:
    p50, p99, longest = percentiles(seconds)
    return f"| {what}: p50 / p99 / max | {p50:.3g} / {p99:.3g} / {longest:.3g} s |"


def main(argv: list[str]) -> int:
    """Prints the report of a simulation, and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench fleet", description=__doc__)
    for name in fields(Size):
        parser.add_argument(f"--{name.name}", type=int, default=name.default)
    parser.add_argument("--json", action="store_true", help="print all values as JSON")
    arguments = vars(parser.parse_args(argv))
    as_json = arguments.pop("json")
    size = Size(**arguments)
    report = run(size, lambda phase: print(phase, file=sys.stderr, flush=True))
    if as_json:
        print(json.dumps(asdict(report)))
    else:
        print("\n".join(lines(size, report)))
    return 1 if report.lost or report.repeated else 0
