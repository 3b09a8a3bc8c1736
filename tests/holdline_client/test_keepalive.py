"""When a socket is pinged, and when it is dead."""

from __future__ import annotations

from holdline_client.keepalive import (
    MAX_DEADLINE_FACTOR,
    OVERSLEPT,
    PONG_DEADLINE,
    PROBE_DEADLINE,
    Action,
    Keepalive,
)


def test_a_quiet_interval_is_followed_by_a_ping_and_a_pong_by_a_quiet_interval() -> None:
    keepalive = Keepalive(0, 25)
    assert None is keepalive.tick(24.9)
    assert Action.PING is keepalive.tick(25)
    assert ("1", 25 + PONG_DEADLINE) == (keepalive.awaited, keepalive.due)
    keepalive.heard(26, "1")
    assert (None, 51) == (keepalive.awaited, keepalive.due)


def test_a_line_that_says_nothing_is_dead_at_the_deadline() -> None:
    keepalive = Keepalive(0, 25)
    keepalive.tick(25)
    assert None is keepalive.tick(25 + PONG_DEADLINE - 0.1)
    assert Action.DEAD is keepalive.tick(25 + PONG_DEADLINE)


def test_what_comes_before_the_pong_buys_time_but_not_for_ever() -> None:
    keepalive = Keepalive(0, 25)
    keepalive.tick(25)
    now = 25.0
    while keepalive.tick(now) is not Action.DEAD:
        now += 1
        keepalive.heard(now)
    assert 25 + MAX_DEADLINE_FACTOR * PONG_DEADLINE == now


def test_a_pong_to_an_older_ping_is_not_the_one_that_is_awaited() -> None:
    keepalive = Keepalive(0, 25)
    keepalive.tick(25)
    keepalive.probe(26)
    keepalive.heard(27, "1")
    assert Action.DEAD is keepalive.tick(27 + PROBE_DEADLINE)


def test_a_probe_asks_at_once_and_waits_less() -> None:
    keepalive = Keepalive(0, 25)
    assert Action.PING is keepalive.probe(3)
    assert 3 + PROBE_DEADLINE == keepalive.due


def test_a_socket_that_overslept_is_probed_before_it_is_dropped() -> None:
    keepalive = Keepalive(0, 25)
    assert Action.PING is keepalive.tick(25 + OVERSLEPT + 0.1)
    assert 25 + OVERSLEPT + 0.1 + PROBE_DEADLINE == keepalive.due
    again = Keepalive(0, 25)
    again.tick(25)
    assert Action.PING is again.tick(1000)
    assert Action.DEAD is again.tick(1000 + PROBE_DEADLINE)


def test_a_server_that_goes_is_left_at_the_moment_that_it_named() -> None:
    keepalive = Keepalive(0, 25)
    keepalive.draining(1, 0.5)
    assert 1.5 == keepalive.due
    assert Action.MOVE is keepalive.tick(1.5)
    keepalive = Keepalive(0, 25)
    assert 300 == keepalive.draining(0, 1e9)
