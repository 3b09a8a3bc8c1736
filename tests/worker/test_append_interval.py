"""Tests the interval between appends, with a simulated worker in virtual time."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from dataclasses import dataclass, field
from statistics import quantiles

import pytest

from worker.append_interval import (
    BUSY_PIECES,
    BUSY_SECONDS,
    BUSY_WAITING,
    CALM_PIECES,
    CALM_WAITING,
    GRID_SECONDS,
    LOW_PIECES,
    LOW_WAITING,
    MAX_CALM_SECONDS,
    NEVER,
    PERIOD_SECONDS,
    AppendInterval,
)

# The beginning of a simulation that is not measured, because the streams begin together.
BEGIN_SECONDS = 1.5


@dataclass
class Stream:
    """A stream whose text is appended as a flusher does it."""

    buffered: list[float] = field(default_factory=list)  # the times at which the pieces arrived
    in_flight: list[float] = field(default_factory=list)
    sent: float = NEVER
    waits: bool = False


class Simulation:
    """Streams in one worker, which handles one piece of text or one append after the other.

    A piece costs `piece` seconds and an append `append` seconds of the worker. The reply to an
    append arrives `trip` seconds later.
    """

    def __init__(self, *, piece: float, append: float, trip: float = 0.0005) -> None:
        self.interval = AppendInterval(0.0)
        self.switches: list[float] = []
        self.appends = 0
        self.delays: list[float] = []
        self._piece, self._append, self._trip = piece, append, trip
        self._free = 0.0  # the time at which the worker has no work left
        self._numbers = itertools.count()
        self._events: list[tuple[float, int, str, Stream]] = []

    def run(self, streams: int, rate: float, seconds: float) -> None:
        pick = random.Random(1)
        for _ in range(streams):
            stream, at = Stream(), pick.random() / rate
            while at < seconds:
                self._at(at, "piece", stream)
                at += pick.uniform(0.8, 1.2) / rate
        while self._events:
            now, _, kind, stream = heapq.heappop(self._events)
            if kind == "piece":
                self._work(now, self._piece)
                stream.buffered.append(now)
                self._send_when_due(stream, now)
            elif kind == "due":
                stream.waits = False
                self._send(stream, now)
            else:
                self._replied(stream, now)

    def _at(self, time: float, kind: str, stream: Stream) -> None:
        heapq.heappush(self._events, (time, next(self._numbers), kind, stream))

    def _work(self, now: float, cost: float) -> None:
        self._free = max(self._free, now) + cost

    def _send_when_due(self, stream: Stream, now: float) -> None:
        if stream.in_flight or stream.waits or not stream.buffered:
            return
        due = self.interval.due(stream.sent)
        if due > now:
            stream.waits = True
            self._at(due, "due", stream)
        else:
            self._send(stream, now)

    def _send(self, stream: Stream, now: float) -> None:
        self._work(now, self._append)
        stream.in_flight, stream.buffered, stream.sent = stream.buffered, [], now
        self._at(self._free + self._trip, "reply", stream)

    def _replied(self, stream: Stream, now: float) -> None:
        if now > BEGIN_SECONDS:
            self.appends += 1
            self.delays += [now - arrived for arrived in stream.in_flight]
        was_busy = self.interval.busy
        self.interval.count(len(stream.in_flight), now - stream.sent, now)
        if self.interval.busy is not was_busy:
            self.switches.append(now)
        stream.in_flight = []
        self._send_when_due(stream, now)

    def p99(self) -> float:
        return quantiles(self.delays, n=100)[98]


def feed(
    interval: AppendInterval, began: float, seconds: float, *, pieces: float, waiting: float
) -> float:
    """Counts a steady load with an append for each piece, and returns the time after it.

    `pieces` is their number per second, and `waiting` the mean number of waiting appends.
    """
    for _ in range(math.ceil(seconds / PERIOD_SECONDS)):
        appends = math.ceil(pieces * PERIOD_SECONDS)
        waited = waiting * PERIOD_SECONDS / appends
        for number in range(1, appends + 1):
            interval.count(1, waited, began + PERIOD_SECONDS * number / appends)
        began += PERIOD_SECONDS
    return began


@pytest.mark.parametrize(("streams", "rate"), [(1, 50), (1, 1_000), (20, 50), (100, 50)])
def test_a_worker_with_a_low_load_delays_no_text(streams: int, rate: float) -> None:
    simulation = Simulation(piece=35e-6, append=60e-6)
    simulation.run(streams, rate, 3)
    assert [] == simulation.switches
    assert simulation.p99() < 0.005


@pytest.mark.parametrize(
    ("piece", "append"),
    [(35e-6, 35e-6), (50e-6, 120e-6)],
    ids=["fast machine", "slow machine"],
)
def test_a_busy_worker_appends_at_most_twenty_times_a_second(piece: float, append: float) -> None:
    simulation = Simulation(piece=piece, append=append)
    simulation.run(200, 50, 4)
    assert 1 == len(simulation.switches)
    assert simulation.switches[0] < 2 * PERIOD_SECONDS
    assert simulation.appends / 200 / (4 - BEGIN_SECONDS) < 20
    assert simulation.p99() < 0.08


def test_the_appends_of_two_thousand_streams_are_bounded() -> None:
    simulation = Simulation(piece=5e-6, append=10e-6)
    simulation.run(2_000, 30, 2.5)
    assert 1 == len(simulation.switches)
    assert simulation.appends / 2_000 / (2.5 - BEGIN_SECONDS) < 20
    assert simulation.p99() < 0.08


def test_text_that_is_slower_than_the_interval_is_not_delayed() -> None:
    simulation = Simulation(piece=30e-6, append=50e-6)
    simulation.run(2_000, 5, 3)
    assert simulation.interval.busy
    assert simulation.p99() < 0.01


def test_appends_of_a_busy_worker_are_due_together() -> None:
    interval = AppendInterval(0.0)
    feed(interval, 0.0, 1, pieces=2 * BUSY_PIECES, waiting=0)
    dues = {interval.due(100 + number / 1_000) for number in range(20)}
    assert 5 == len(dues)
    for number in range(20):
        wait = interval.due(100 + number / 1_000) - 100 - number / 1_000
        assert abs(wait - BUSY_SECONDS) <= GRID_SECONDS / 2 + 1e-9
    assert interval.due(NEVER) == NEVER


@pytest.mark.parametrize("first", [0.5 * CALM_PIECES, 2 * BUSY_PIECES], ids=["calm", "busy"])
def test_a_load_between_the_limits_switches_nothing(first: float) -> None:
    interval = AppendInterval(0.0)
    now = feed(interval, 0.0, 5, pieces=first, waiting=0)
    before = interval.busy
    middle = (BUSY_PIECES + CALM_PIECES) / 2
    for number in range(50):
        wave = 0.9 * (BUSY_PIECES - CALM_PIECES) / 2 * math.sin(number)
        now = feed(interval, now, PERIOD_SECONDS, pieces=middle + wave, waiting=1)
        assert before is interval.busy


def test_a_slow_redis_makes_a_worker_busy_only_if_many_appends_wait() -> None:
    interval = AppendInterval(0.0)
    now = feed(interval, 0.0, 60, pieces=500, waiting=BUSY_WAITING - 1)
    assert not interval.busy
    feed(interval, now, PERIOD_SECONDS, pieces=500, waiting=BUSY_WAITING + 1)
    assert interval.busy


def test_one_pause_of_the_process_is_soon_forgotten() -> None:
    interval = AppendInterval(0.0)
    now = feed(interval, 0.0, PERIOD_SECONDS, pieces=5_000, waiting=2 * BUSY_WAITING)
    assert interval.busy
    feed(interval, now, PERIOD_SECONDS, pieces=5_000, waiting=5)
    assert not interval.busy


def test_a_worker_that_is_calm_only_because_of_the_interval_does_not_oscillate() -> None:
    """Without the interval many appends wait, and with it few, so the estimate is wrong."""
    interval, now, switches = AppendInterval(0.0), 0.0, 0
    for _ in range(round(600 / PERIOD_SECONDS)):
        before = interval.busy
        waiting = CALM_WAITING / 2 if interval.busy else 2 * BUSY_WAITING
        now = feed(interval, now, PERIOD_SECONDS, pieces=100, waiting=waiting)
        switches += before is not interval.busy
    assert switches < 2 * (math.log2(MAX_CALM_SECONDS / PERIOD_SECONDS) + 600 / MAX_CALM_SECONDS)
    assert interval.busy


def test_the_first_reply_after_an_idle_time_ends_the_interval() -> None:
    interval, now = AppendInterval(0.0), 0.0
    for _ in range(12):  # the calm time grows to its maximum
        now = feed(interval, now, PERIOD_SECONDS, pieces=100, waiting=2 * BUSY_WAITING)
        while interval.busy:
            now = feed(interval, now, PERIOD_SECONDS, pieces=100, waiting=2 * LOW_WAITING)
    now = feed(interval, now, PERIOD_SECONDS, pieces=100, waiting=2 * BUSY_WAITING)
    assert interval.busy
    interval.count(1, 0.001, now + 2 * MAX_CALM_SECONDS)
    assert not interval.busy


def test_a_low_load_after_a_long_busy_time_is_delayed_for_one_period_only() -> None:
    interval, now = AppendInterval(0.0), 0.0
    for _ in range(12):  # the calm time grows to its maximum
        now = feed(interval, now, PERIOD_SECONDS, pieces=5_000, waiting=2 * BUSY_WAITING)
        while interval.busy:
            now = feed(interval, now, PERIOD_SECONDS, pieces=5_000, waiting=2)
    now = feed(interval, now, PERIOD_SECONDS, pieces=5_000, waiting=2 * BUSY_WAITING)
    assert interval.busy
    feed(interval, now, PERIOD_SECONDS, pieces=LOW_PIECES / 2, waiting=LOW_WAITING / 2)
    assert not interval.busy
