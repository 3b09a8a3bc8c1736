"""Tests when the client pings its socket and when it declares the socket dead."""

from __future__ import annotations

from holdline_client.keepalive import (
    MAX_DEADLINE_FACTOR,
    OVERSLEPT,
    PONG_DEADLINE,
    PROBE_DEADLINE,
    Action,
    Keepalive,
)


def test_a_ping_is_sent_after_each_quiet_interval() -> None:
    keepalive = Keepalive(0, 25)
    assert None is keepalive.tick(24.9)
    assert Action.PING is keepalive.tick(25)
    assert ("1", 25 + PONG_DEADLINE) == (keepalive.awaited, keepalive.due)
    keepalive.heard(26, "1")
    assert (None, 51) == (keepalive.awaited, keepalive.due)


def test_a_silent_connection_is_dead_at_the_deadline() -> None:
    keepalive = Keepalive(0, 25)
    keepalive.tick(25)
    assert None is keepalive.tick(25 + PONG_DEADLINE - 0.1)
    assert Action.DEAD is keepalive.tick(25 + PONG_DEADLINE)


def test_other_messages_extend_the_wait_for_a_pong_within_a_bound() -> None:
    keepalive = Keepalive(0, 25)
    keepalive.tick(25)
    now = 25.0
    while keepalive.tick(now) is not Action.DEAD:
        now += 1
        keepalive.heard(now)
    assert 25 + MAX_DEADLINE_FACTOR * PONG_DEADLINE == now


def test_a_pong_to_an_older_ping_does_not_count() -> None:
    keepalive = Keepalive(0, 25)
    keepalive.tick(25)
    keepalive.probe(26)
    keepalive.heard(27, "1")
    assert Action.DEAD is keepalive.tick(27 + PROBE_DEADLINE)


def test_a_probe_pings_at_once_with_a_shorter_deadline() -> None:
    keepalive = Keepalive(0, 25)
    assert Action.PING is keepalive.probe(3)
    assert 3 + PROBE_DEADLINE == keepalive.due


def test_a_socket_is_probed_after_a_suspend_before_it_is_dropped() -> None:
    keepalive = Keepalive(0, 25)
    assert Action.PING is keepalive.tick(25 + OVERSLEPT + 0.1)
    assert 25 + OVERSLEPT + 0.1 + PROBE_DEADLINE == keepalive.due
    again = Keepalive(0, 25)
    again.tick(25)
    assert Action.PING is again.tick(1000)
    assert Action.DEAD is again.tick(1000 + PROBE_DEADLINE)
