"""Tests how a session follows the running responses of followed conversations."""

from __future__ import annotations

from typing import Any

from server.api.problem import invalid
from server.websocket.session import MAX_FOLLOWED, Action, Follow, Leave, Say, Session, Submit
from server.websocket.unstored import ByteLimiter
from tests.error_codes import own_code

A, B = "resp_000" + "a" * 32, "resp_000" + "b" * 32


def a_session() -> Session:
    return Session(lambda _: None, ByteLimiter())


def resume(response_id: str, after: int = -1, lane: str | None = None) -> dict[str, Any]:
    body = {"type": "holdline:resume", "response_id": response_id, "starting_after": after}
    return body if lane is None else {**body, "stream_id": lane}


def codes(actions: list[Action]) -> list[str]:
    return [own_code(a.message["error"]) for a in actions if isinstance(a, Say)]


def test_a_running_response_is_followed_once_on_a_lane_of_its_own() -> None:
    session = a_session()
    assert [Follow(A, -1, A)] == session.follow_running(A)
    assert [] == session.follow_running(A)
    assert [] == session.ended(A, A)
    assert 0 == session.followed
    session.received(resume(B, lane="mine"))
    assert [] == session.follow_running(B)


def test_an_explicit_follower_takes_a_running_response_over() -> None:
    session = a_session()
    session.follow_running(A)
    assert [Leave(A), Follow(A, 3, "mine")] == [
        action if isinstance(action, Leave) else Follow(A, action.starting_after, action.lane)
        for action in session.received(resume(A, 3, "mine"))
        if isinstance(action, Leave | Follow)
    ]
    assert ["already_followed"] == codes(session.received(resume(A)))
    assert 1 == session.followed

    # A request that was sent again leads to the response.
    session.follow_running(B)
    session.received({"type": "response.create", "input": "a", "stream_id": "other"})
    assert session.is_submitting
    assert [Leave(B), Follow(B, -1, "other")] == session.submitted("other", B)
    assert 2 == session.followed


def test_a_resume_on_the_lane_of_a_running_response_takes_it_over() -> None:
    session = a_session()
    session.follow_running(A)
    first, second = session.received(resume(A, 3, A))
    assert Leave(A) == first
    assert isinstance(second, Follow)
    assert [] == session.leave_running(A)
    assert [] == session.ended(A, A)
    assert 0 == session.followed


def test_a_request_on_the_lane_of_a_running_response_waits_for_its_end() -> None:
    session = a_session()
    session.follow_running(A)
    assert [] == session.received({"type": "response.create", "input": "a", "stream_id": A})
    # The client uses the lane now, so the server does not leave it by itself.
    assert [] == session.leave_running(A)
    [submit] = session.ended(A, A)
    assert isinstance(submit, Submit)
    session.refused(A, invalid(None, "no"))
    assert [Follow(A, -1, A)] == session.follow_running(A)
    assert [Leave(A)] == session.leave_running(A)
    assert [] == session.leave_running(A)


def test_running_responses_count_towards_the_limit_and_leave_room_for_a_resume() -> None:
    session = a_session()
    ids = [f"resp_000{number:032x}" for number in range(MAX_FOLLOWED)]
    for id_ in ids:
        assert [Follow(id_, -1, id_)] == session.follow_running(id_)
    assert [] == session.follow_running(A)
    assert ["too_many"] == codes(session.received(resume(A)))
    # A response that is already followed can be taken over at the limit.
    assert Leave(ids[0]) == session.received(resume(ids[0], lane="mine"))[0]
    assert MAX_FOLLOWED == session.followed
