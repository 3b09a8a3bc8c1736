"""Tests how workers share the regular checks of all partitions."""

from __future__ import annotations

from collections import Counter

from worker.fleet_share import FleetShare, FleetSize

PARTITIONS = range(5, 133)
TIMES = 8


def checks(workers: int, intervals: int, most: int | None = None) -> Counter[int]:
    """Returns how often a fleet checks each partition in some intervals."""
    fleet = FleetSize(workers)
    shares = [FleetShare(PARTITIONS, fleet, TIMES, most) for _ in range(workers)]
    return Counter(number for _ in range(intervals) for one in shares for number in one.next())


def test_one_worker_checks_all_partitions_in_each_interval() -> None:
    assert dict.fromkeys(PARTITIONS, 3) == checks(workers=1, intervals=3)


def test_the_checks_of_a_fleet_do_not_grow_with_its_workers() -> None:
    """Each worker checks at least one partition, so a larger fleet makes one check for each."""
    for workers in (1, 8, 100, 1_000, 5_000):
        total = checks(workers, intervals=16).total() / 16
        assert total <= max(TIMES * len(PARTITIONS) + workers, workers)


def test_a_fleet_checks_each_partition_as_often_as_the_others() -> None:
    found = checks(workers=50, intervals=64)
    assert set(PARTITIONS) == set(found)
    assert max(found.values()) < 2 * min(found.values())


def test_a_worker_takes_the_partitions_in_turn() -> None:
    share = FleetShare(range(10), FleetSize(), TIMES, 4)
    first = share.next()[0]
    assert [(first + turn) % 10 for turn in range(4, 12)] == [*share.next(), *share.next()]


def test_a_change_of_the_number_of_workers_takes_effect_at_once() -> None:
    fleet = FleetSize(1_000)
    share = FleetShare(PARTITIONS, fleet, TIMES)
    assert 2 == len(share.next())
    fleet.workers = 1  # the records of the other workers have expired
    assert len(PARTITIONS) == len(share.next())
