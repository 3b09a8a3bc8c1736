"""Tests that a session keeps its lanes in order under any sequence of messages."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.api.client_messages import MESSAGE_TYPES
from server.api.problem import Problem, invalid
from server.websocket.session import (
    MAX_FOLLOWED,
    MAX_WAITING,
    Action,
    Cancel,
    Follow,
    Forget,
    Pong,
    Say,
    Session,
    Submit,
)
from server.websocket.unstored import ByteLimiter
from tests.error_codes import own_code

A, B = "resp_000" + "a" * 32, "resp_000" + "b" * 32


def anybody(_kind: type) -> None:
    """Allows every message."""


def create(lane: str | None = None, text: str = "Why?") -> dict[str, Any]:
    body: dict[str, Any] = {"type": "response.create", "input": text}
    return body if lane is None else {**body, "stream_id": lane}


def resume(response_id: str, after: int = -1, lane: str | None = None) -> dict[str, Any]:
    body = {"type": "holdline:resume", "response_id": response_id, "starting_after": after}
    return body if lane is None else {**body, "stream_id": lane}


def codes(actions: list[Action]) -> list[str]:
    """Returns Holdline's own codes of the refusals."""
    return [own_code(a.message["error"]) for a in actions if isinstance(a, Say)]


def test_a_request_on_an_idle_lane_is_submitted_and_then_followed() -> None:
    session = Session(anybody, ByteLimiter())
    [submit] = session.received(create())

    assert isinstance(submit, Submit)
    assert "Why?" == submit.create.input
    assert [Follow(A, -1, None)] == session.submitted(None, A)
    assert [] == session.ended(None, A)
    assert 0 == session.followed


def test_requests_of_one_lane_run_one_after_the_other() -> None:
    session = Session(anybody, ByteLimiter())
    session.received(create("x", "1"))
    assert [] == session.received(create("x", "2"))
    assert [] == session.received(create("x", "3"))
    session.submitted("x", A)

    [second] = session.ended("x", A)
    assert isinstance(second, Submit)
    assert "2" == second.create.input
    session.submitted("x", B)
    [third] = session.ended("x", B)
    assert isinstance(third, Submit)
    assert "3" == third.create.input


def test_lanes_run_concurrently() -> None:
    session = Session(anybody, ByteLimiter())

    started = [session.received(create(lane)) for lane in (None, "a", "b")]

    assert [1, 1, 1] == [len(actions) for actions in started]


def test_a_refused_request_releases_the_next_one_of_its_lane() -> None:
    session = Session(anybody, ByteLimiter())
    session.received(create("x", "1"))
    session.received(create("x", "2"))

    said, following = session.refused("x", invalid("model", "No.", "bad_model"))

    assert isinstance(said, Say)
    assert ("error", "x") == (said.message["type"], said.message["stream_id"])
    assert isinstance(following, Submit)
    assert "2" == following.create.input


def test_a_resume_starts_at_once_and_its_lane_waits_for_it() -> None:
    session = Session(anybody, ByteLimiter())
    session.received(create("x", "1"))

    assert [Follow(B, 7, "x")] == session.received(resume(B, 7, "x"))
    session.received(create("x", "2"))
    session.submitted("x", A)
    assert [] == session.ended("x", A)
    assert 1 == len(session.ended("x", B))


def test_a_followed_response_is_not_followed_twice() -> None:
    session = Session(anybody, ByteLimiter())
    session.received(resume(A))

    assert ["already_followed"] == codes(session.received(resume(A, 5, "other")))
    session.ended(None, A)
    assert [Follow(A, 5, None)] == session.received(resume(A, 5))


def test_a_ping_is_answered_and_a_cancel_is_forwarded() -> None:
    session = Session(anybody, ByteLimiter())

    assert [Pong("p")] == session.received({"type": "holdline:ping", "id": "p"})
    assert [Pong(None)] == session.received({"type": "holdline:ping"})
    assert [Cancel(A, "x")] == session.received(
        {"type": "response.cancel", "response_id": A, "stream_id": "x"}
    )
    assert [] == session.received({"type": "holdline:auth", "token": "t"})


def test_an_invalid_message_is_reported_on_its_lane() -> None:
    [said] = Session(anybody, ByteLimiter()).received(
        {"type": "response.create", "stream_id": "x", "temperature": 9}
    )

    assert isinstance(said, Say)
    assert ("error", 400, "x", "temperature") == (
        said.message["type"],
        said.message["status"],
        said.message["stream_id"],
        said.message["error"]["param"],
    )


def test_the_end_of_an_unknown_response_changes_nothing() -> None:
    session = Session(anybody, ByteLimiter())

    assert [] == session.ended("nowhere", A)
    session.received(resume(A))
    assert [] == session.ended(None, B)
    assert [] == session.ended("other", A)
    assert 1 == session.followed


def test_an_integer_too_large_to_be_stored_is_refused() -> None:
    session = Session(anybody, ByteLimiter())
    session.received(create("x"))
    item = {"role": "user", "content": "Why?", "unknown": 2**70}
    refused = session.received({**create("x"), "input": [item]})
    assert ["invalid_value"] == codes(refused)
    assert isinstance(refused[0], Say)
    assert "input[0].unknown" == refused[0].message["error"]["param"]


def test_the_bytes_waiting_in_lanes_are_bounded_over_all_sockets() -> None:
    limiter = ByteLimiter(1000)
    session, other = Session(anybody, limiter), Session(anybody, limiter)
    session.received(create("x"))
    assert [] == codes(session.received(create("x", "y" * 800)))
    assert 800 < limiter.used < 1000

    other.received(create("x"))
    assert ["too_many"] == codes(other.received(create("x", "y" * 800)))
    [_, submit] = session.refused("x", invalid(None, "No."))
    assert isinstance(submit, Submit)
    assert ("y" * 800, submit.create.input) == (submit.body["input"], "y" * 800)
    assert 0 == limiter.used
    assert [] == codes(other.received(create("x", "y" * 800)))
    other.close()
    assert 0 == limiter.used


def test_the_waiting_requests_of_a_socket_are_bounded() -> None:
    session = Session(anybody, ByteLimiter())
    for _ in range(MAX_WAITING + 1):
        assert [] == codes(session.received(create("x")))

    assert ["too_many"] == codes(session.received(create("x")))
    assert ["too_many"] == codes(session.received(create("x")))
    session.refused("x", invalid(None, "No."))
    assert [] == codes(session.received(create("x")))


def test_the_followed_responses_of_a_socket_are_bounded() -> None:
    session = Session(anybody, ByteLimiter())
    for number in range(MAX_FOLLOWED):
        assert [] == codes(session.received(resume(f"resp_000{number:032x}", lane=f"{number}")))

    assert ["too_many"] == codes(session.received(resume(A)))
    assert ["too_many"] == codes(session.received(create()))
    assert ["websocket_stream_limit_reached"] == codes(session.received(create("new")))


def test_requests_that_are_not_yet_accepted_count_toward_the_bound() -> None:
    session = Session(anybody, ByteLimiter())
    for number in range(MAX_FOLLOWED):
        assert [] == codes(session.received(create(f"lane-{number}")))

    [refusal] = session.received(create("one-more"))
    assert isinstance(refusal, Say)
    assert (400, "one-more") == (refusal.message["status"], refusal.message["stream_id"])
    error = refusal.message["error"]
    assert ("invalid_request_error", "websocket_stream_limit_reached", "stream_id") == (
        error["type"],
        error["code"],
        error["param"],
    )
    assert ["too_many"] == codes(session.received(resume(A)))
    # A request on a lane that exists waits there, as the error advises.
    assert [] == session.received(create("lane-7", "And?"))
    session.submitted("lane-7", A)
    [submit] = session.ended("lane-7", A)
    assert isinstance(submit, Submit)


@pytest.mark.parametrize(
    ("body", "forgotten"),
    [
        ({"stream_id": "x"}, [Forget("x", A)]),
        ({}, [Forget(None, A)]),
        ({"stream_id": None}, [Forget(None, A)]),
        ({"stream_id": "x y"}, []),
        ({"stream_id": ""}, []),
        ({"stream_id": 5}, []),
        ({"type": "holdline:ping", "id": []}, []),
        ({"type": None}, []),
    ],
)
def test_only_a_refused_turn_on_a_valid_lane_makes_this_lane_forget_its_previous_response(
    body: dict[str, Any], forgotten: list[Forget]
) -> None:
    session = Session(anybody, ByteLimiter())
    refused = create() | {"temperature": 9, "previous_response_id": A} | body
    refusal, *actions = session.received(refused)
    assert isinstance(refusal, Say)
    assert forgotten == actions
    assert ({"x"} if body.get("stream_id") == "x" else set()) == {
        value for name, value in refusal.message.items() if name == "stream_id"
    }


# The fields of each type of message that an error repeats, and their names in the error.
NAMED: dict[str, dict[str, str]] = {
    "response.create": {"stream_id": "stream_id"},
    "response.steer": {"previous_response_id": "response_id"},
    "response.cancel": {"response_id": "response_id", "stream_id": "stream_id"},
    "holdline:resume": {"response_id": "response_id", "stream_id": "stream_id"},
    "holdline:follow": {"conversation": "conversation"},
    "holdline:unfollow": {"conversation": "conversation"},
    "holdline:read": {"conversation": "conversation"},
    "holdline:console": {"response_id": "response_id"},
    "holdline:ping": {},
    "holdline:auth": {},
}


def about(body: dict[str, Any]) -> dict[str, Any]:
    """Returns the names in the error for a message that the client may not send."""

    def refuse(_: type) -> None:
        raise Problem(403, "missing_scope", "No.")

    [refusal, *_] = Session(refuse, ByteLimiter()).received(body)
    assert isinstance(refusal, Say)
    names = ("stream_id", "response_id", "conversation")
    return {name: refusal.message[name] for name in names if name in refusal.message}


@pytest.mark.parametrize("kind", MESSAGE_TYPES)
def test_an_error_repeats_what_the_message_names(kind: str) -> None:
    named = NAMED[kind]
    body = {"type": kind, **{field: f"{field}-1" for field in named}}
    expected = {name: f"{field}-1" for field, name in named.items()}
    assert expected == about(body)
    invalid = {"starting_after": "x", "sequence_number": "x", "temperature": "x", "token": 1}
    assert expected == about({**body, **invalid})
    assert {} == about({"type": kind, **dict.fromkeys(named, 5)})
    assert {} == about({"type": [kind], **dict.fromkeys(named, 5)})


@pytest.mark.parametrize("kind", ["holdline:follow", "holdline:unfollow"])
def test_an_error_about_the_list_of_conversations_has_the_conversation_null(kind: str) -> None:
    assert {"conversation": None} == about({"type": kind})
    assert {"conversation": None} == about({"type": kind, "conversation": None})


def test_refusals_state_the_limits_of_a_socket() -> None:
    session = Session(anybody, ByteLimiter())
    for number in range(MAX_FOLLOWED):
        session.received(create(f"{number}"))
    for _ in range(MAX_WAITING):
        assert [] == session.received(create("7"))
    stated = []
    for body in (create("7"), resume(A)):
        [refusal] = session.received(body)
        assert isinstance(refusal, Say)
        stated.append(refusal.message["error"]["headers"])
    assert [
        {"Retry-After": "1", "X-RateLimit-Limit-Waiting": str(MAX_WAITING)},
        {"Retry-After": "1", "X-RateLimit-Limit-Running": str(MAX_FOLLOWED)},
    ] == stated


@pytest.mark.parametrize("hostile", ["resp_é", "\ud800", "١" * 37])
def test_an_id_of_invalid_form_is_unknown(hostile: str) -> None:
    session = Session(anybody, ByteLimiter())

    assert ["response_not_found"] == codes(session.received(resume(hostile)))
    assert 0 == session.followed


LANES = st.sampled_from([None, "a", "b"])
RESPONSES = st.sampled_from([A, B, "resp_000" + "c" * 32, "not an id"])
INPUTS = st.one_of(
    st.tuples(st.just("create"), LANES),
    st.tuples(st.just("create"), LANES),
    st.tuples(st.just("resume"), LANES, RESPONSES),
    st.tuples(st.just("cancel"), LANES, RESPONSES),
    st.tuples(st.just("accepted"), st.integers(0, 5), st.booleans()),
    st.tuples(st.just("refused"), st.integers(0, 5)),
    st.tuples(st.just("ended"), st.integers(0, 5)),
    st.tuples(st.just("ended nobody"), LANES, RESPONSES),
    st.tuples(st.just("ping"), st.none() | st.text(max_size=3) | st.integers()),
    st.tuples(
        st.just("garbage"),
        st.dictionaries(
            st.sampled_from(["type", "stream_id", "response_id", "input", "x"]),
            st.none()
            | st.text(max_size=5)
            | st.integers()
            | st.lists(st.integers(), max_size=2)
            | st.sampled_from(["response.create", "holdline:resume", "response.cancel"]),
        ),
    ),
)


class Driver:
    """Executes the actions of the session at the times that the test chooses, and records them."""

    def __init__(self) -> None:
        self.session = Session(anybody, ByteLimiter())
        self.asked: dict[str | None, deque[str]] = {}
        self.submitting: list[Submit] = []
        self.following: list[tuple[str | None, str]] = []
        self.number = 0

    def do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Submit(create=asked):
                    lane = asked.stream_id
                    assert isinstance(asked.input, str)
                    assert self.asked[lane].popleft() == asked.input, "first in, first out"
                    assert lane not in [s.create.stream_id for s in self.submitting]
                    assert lane not in [lane for lane, _ in self.following], "the lane is busy"
                    self.submitting.append(action)
                case Follow(response_id=response_id, lane=lane):
                    self.following.append((lane, response_id))
                case _:
                    pass

    def create(self, lane: str | None) -> None:
        self.number += 1
        text = str(self.number)
        self.asked.setdefault(lane, deque()).append(text)
        actions = self.session.received(create(lane, text))
        if codes(actions):
            self.asked[lane].pop()
        self.do(actions)

    def accepted(self, which: int, known: bool) -> None:
        if self.submitting:
            submit = self.submitting.pop(which % len(self.submitting))
            self.number += 1
            # A known idempotency key returns the id of an existing response.
            id_ = A if known else f"resp_000{self.number:032x}"
            self.do(self.session.submitted(submit.create.stream_id, id_))

    def refused(self, which: int) -> None:
        if self.submitting:
            submit = self.submitting.pop(which % len(self.submitting))
            self.do(self.session.refused(submit.create.stream_id, Problem(429, "full", "Full.")))

    def ended(self, which: int) -> None:
        if self.following:
            self.do(self.session.ended(*self.following.pop(which % len(self.following))))

    def check(self) -> None:
        waiting = sum(map(len, self.asked.values()))
        assert waiting == self.session._waiting
        assert len(set(self.following)) == self.session.followed
        for lane, texts in self.asked.items():
            busy = lane in [busy for busy, _ in self.following]
            starting = lane in [submit.create.stream_id for submit in self.submitting]
            assert not texts or busy or starting, "a request waits for nobody"


@given(st.lists(INPUTS, max_size=60))
@example([("create", None), ("create", None), ("resume", None, A), ("accepted", 0, True)])
@example([("create", None), ("resume", None, A), ("accepted", 0, True)])
def test_any_sequence_of_messages_and_events_keeps_the_lanes_in_order(
    inputs: list[tuple[Any, ...]],
) -> None:
    driver = Driver()
    for one_input in inputs:
        match one_input:
            case ("create", lane):
                driver.create(lane)
            case ("resume", lane, id_):
                driver.do(driver.session.received(resume(id_, -1, lane)))
            case ("cancel", lane, id_):
                message = {"type": "response.cancel", "response_id": id_}
                driver.do(driver.session.received(message))
            case ("accepted", which, known):
                driver.accepted(which, known)
            case ("refused", which):
                driver.refused(which)
            case ("ended", which):
                driver.ended(which)
            case ("ended nobody", lane, id_) if (lane, id_) not in driver.following:
                driver.do(driver.session.ended(lane, id_))
            case ("ping", id_):
                assert [Pong(id_)] == driver.session.received({"type": "holdline:ping", "id": id_})
            case ("garbage", body) if body.get("type") != "response.create":
                driver.do(driver.session.received(body))
            case _:
                pass
        driver.check()
    while driver.submitting or driver.following:
        driver.accepted(0, known=False)
        driver.ended(0)
        driver.check()

    assert (0, 0, {}) == (driver.session._waiting, driver.session.followed, driver.session._lanes)
    assert all(not texts for texts in driver.asked.values())
