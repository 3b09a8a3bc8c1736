"""Tests the sums of recent attempts, and which of them need an operator."""

from __future__ import annotations

import pytest

from jobs.recent_attempts import RecentAttempts, RecentSum


def test_the_attempts_of_several_workers_are_summed_with_the_most_frequent_cause() -> None:
    found = RecentSum(
        [
            RecentAttempts("fast", 10, 2, "upstream_busy"),
            RecentAttempts("fast", 10, 3, "upstream_unavailable"),
            RecentAttempts("deep", 4, 0, ""),
        ]
    )
    assert RecentAttempts("fast", 20, 5, "upstream_unavailable") == found.of("fast")
    assert RecentAttempts("deep", 4, 0, "") == found.of("deep")
    assert RecentAttempts("other", 0, 0, "") == found.of("other")
    assert RecentAttempts("", 4, 0, "") == found.except_for({"fast"})


def test_the_attempts_of_an_ended_worker_are_subtracted() -> None:
    one = RecentAttempts("fast", 10, 2, "upstream_busy")
    found = RecentSum([one, RecentAttempts("fast", 10, 1, "upstream_unavailable")])
    found.add(one, -1)
    assert RecentAttempts("fast", 10, 1, "upstream_unavailable") == found.of("fast")
    assert RecentAttempts("", 10, 1, "upstream_unavailable") == found.except_for(())


@pytest.mark.parametrize(
    ("ended", "failed", "failing"),
    [(4, 4, False), (5, 5, True), (25, 5, False), (24, 5, True), (100, 20, False), (0, 0, False)],
)
def test_a_model_fails_if_many_and_more_than_a_fifth_of_its_attempts_do(
    ended: int, failed: int, failing: bool
) -> None:
    assert failing == RecentAttempts("fast", ended, failed, "x").failing
