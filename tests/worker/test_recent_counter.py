"""Tests how a worker counts the attempts that ended lately."""

from __future__ import annotations

from jobs.recent_attempts import RECENT_SECONDS, RecentAttempts
from worker.recent_counter import MAX_NAMES, SLICE_SECONDS, RecentCounter


def test_attempts_are_counted_by_model_until_they_are_old() -> None:
    counter = RecentCounter()
    counter.add(0, "fast", "stop", failed=False)
    counter.add(10, "deep", "upstream_busy", failed=True)
    counter.add(100, "deep", "upstream_unavailable", failed=True)
    counter.add(100, "deep", "stop", failed=False)
    assert (
        RecentAttempts("deep", 3, 2, "upstream_unavailable"),
        RecentAttempts("fast", 1, 0, ""),
    ) == counter.counts(100)
    assert (RecentAttempts("deep", 2, 1, "upstream_unavailable"),) == counter.counts(
        RECENT_SECONDS + SLICE_SECONDS
    )
    assert () == counter.counts(3 * RECENT_SECONDS)


def test_the_number_of_models_is_bounded() -> None:
    counter = RecentCounter()
    for number in range(3 * MAX_NAMES):
        counter.add(number * SLICE_SECONDS / MAX_NAMES, f"m{number}", "stop", failed=False)
    assert MAX_NAMES == len(counter.counts(3 * SLICE_SECONDS))
