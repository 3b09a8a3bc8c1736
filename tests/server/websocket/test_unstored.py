"""Tests the unstored answers that a socket keeps for later turns."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.api.context import Context
from server.websocket.unstored import (
    MAX_ASKED,
    MAX_BYTES,
    MAX_LANES,
    ByteLimiter,
    PingAcks,
    UnstoredTurns,
)


def context(text: str) -> Context:
    item = {"type": "message", "content": [{"type": "input_text", "text": text}]}
    return Context([item], void_calls=frozenset({text[:9]}))


def test_a_lane_keeps_only_its_latest_answer() -> None:
    turns = UnstoredTurns(ByteLimiter())
    turns.keep("a", "resp_1", context("1"))
    turns.keep(None, "resp_2", context("2"))
    turns.keep("a", "resp_3", context("3"))

    assert (None, context("2"), context("3")) == tuple(
        map(turns.recall, ("resp_1", "resp_2", "resp_3"))
    )
    assert turns.recall(None) is None


def test_a_failed_turn_evicts_its_predecessor_unless_it_is_a_fork() -> None:
    turns = UnstoredTurns(ByteLimiter())
    turns.keep("a", "resp_1", context("1"))
    for lane, previous in (("b", "resp_1"), ("a", "resp_0"), (None, None)):
        turns.forget(lane, previous)
        assert context("1") == turns.recall("resp_1")

    turns.forget("a", "resp_1")
    assert turns.recall("resp_1") is None


def test_lanes_and_bytes_are_bounded_and_the_oldest_goes_first() -> None:
    turns = UnstoredTurns(ByteLimiter())
    for number in range(MAX_LANES + 1):
        turns.keep(f"{number}", f"resp_{number}", context("x"))
    assert turns.recall("resp_0") is None
    assert context("x") == turns.recall("resp_1")

    turns.keep("1", "resp_large", context("x" * (MAX_BYTES - 500)))
    assert turns.recall("resp_2") is None
    turns.keep("2", "resp_too_large", context("x" * MAX_BYTES))
    assert turns.recall("resp_too_large") is None
    assert turns.recall("resp_large") is not None


@given(st.lists(st.integers(0, 20)))
def test_a_pong_confirms_all_responses_asked_about_before_its_ping(pongs: list[int]) -> None:
    ping_acks, confirmed = PingAcks(), list[str]()
    pings = [ping_acks.ask(f"resp_{number}") for number in range(10)]
    for pong in pongs:
        payload = pings[pong] if pong < len(pings) else str(pong * 1000).encode()
        confirmed += ping_acks.pong(payload)

    last = max((pong for pong in pongs if pong < len(pings)), default=-1)
    assert [f"resp_{number}" for number in range(last + 1)] == confirmed


@given(st.binary())
def test_an_unsolicited_pong_confirms_nothing(payload: bytes) -> None:
    assert [] == PingAcks().pong(payload)


def test_pending_confirmations_are_bounded() -> None:
    ping_acks = PingAcks()
    last = [ping_acks.ask("resp_x") for _ in range(MAX_ASKED + 5)][-1]

    assert MAX_ASKED == len(ping_acks.pong(last))


def test_the_unstored_turns_of_a_process_are_bounded_and_release_their_bytes() -> None:
    limiter = ByteLimiter(1000)
    one, two = UnstoredTurns(limiter), UnstoredTurns(limiter)
    one.keep("a", "resp_1", context("x" * 600))
    two.keep("a", "resp_2", context("x" * 600))
    assert (True, None) == (one.recall("resp_1") is not None, two.recall("resp_2"))

    # `resp_3` replaces `resp_1`, because both are on the lane `a`.
    one.keep("a", "resp_3", context("x" * 700))
    assert one.recall("resp_3") is not None
    one.clear()
    assert 0 == limiter.used
    two.keep("a", "resp_2", context("x" * 600))
    two.forget("a", "resp_2")
    assert 0 == limiter.used
