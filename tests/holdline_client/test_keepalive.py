"""When a socket is pinged, and when it is dead."""

from __future__ import annotations

from holdline_client.keepalive import (
    OVERSLEPT,
    PATIENCE,
    PONG_DEADLINE,
    PROBE_DEADLINE,
    Action,
    Keepalive,
)


def test_a_quiet_interval_is_followed_by_a_ping_and_a_pong_by_a_quiet_interval() -> None:
    pulse = Keepalive(0, 25)
    assert None is pulse.tick(24.9)
    assert Action.PING is pulse.tick(25)
    assert ("1", 25 + PONG_DEADLINE) == (pulse.awaited, pulse.due)
    pulse.heard(26, "1")
    assert (None, 51) == (pulse.awaited, pulse.due)


def test_a_line_that_says_nothing_is_dead_at_the_deadline() -> None:
    pulse = Keepalive(0, 25)
    pulse.tick(25)
    assert None is pulse.tick(25 + PONG_DEADLINE - 0.1)
    assert Action.DEAD is pulse.tick(25 + PONG_DEADLINE)


def test_what_comes_before_the_pong_buys_time_but_not_for_ever() -> None:
    pulse = Keepalive(0, 25)
    pulse.tick(25)
    now = 25.0
    while pulse.tick(now) is not Action.DEAD:
        now += 1
        pulse.heard(now)
    assert 25 + PATIENCE * PONG_DEADLINE == now


def test_a_pong_to_an_older_ping_is_not_the_one_that_is_awaited() -> None:
    pulse = Keepalive(0, 25)
    pulse.tick(25)
    pulse.doubt(26)
    pulse.heard(27, "1")
    assert Action.DEAD is pulse.tick(27 + PROBE_DEADLINE)


def test_doubt_asks_at_once_and_waits_less() -> None:
    pulse = Keepalive(0, 25)
    assert Action.PING is pulse.doubt(3)
    assert 3 + PROBE_DEADLINE == pulse.due


def test_who_overslept_doubts_the_socket_and_does_not_condemn_it_unheard() -> None:
    pulse = Keepalive(0, 25)
    assert Action.PING is pulse.tick(25 + OVERSLEPT + 0.1)
    assert 25 + OVERSLEPT + 0.1 + PROBE_DEADLINE == pulse.due
    again = Keepalive(0, 25)
    again.tick(25)
    assert Action.PING is again.tick(1000)
    assert Action.DEAD is again.tick(1000 + PROBE_DEADLINE)


def test_a_server_that_goes_is_left_at_the_moment_that_it_named() -> None:
    pulse = Keepalive(0, 25)
    pulse.draining(1, 0.5)
    assert 1.5 == pulse.due
    assert Action.MOVE is pulse.tick(1.5)
    pulse = Keepalive(0, 25)
    assert 300 == pulse.draining(0, 1e9)
