"""Tests a request's state machine, which takes messages and times and returns messages."""

from __future__ import annotations

from typing import Any

import pytest

from holdline_client import errors
from holdline_client.exchange import (
    ACCEPT_SECONDS,
    ACCEPT_TRIES,
    BUSY_TRIES,
    RESEND_SECONDS,
    Exchange,
    Renew,
)
from holdline_client.response_state import ResponseState


def asked(**request: Any) -> Exchange:
    return Exchange(ResponseState(), request={"input": "x", **request}, key="k", jitter=lambda: 0.0)


def created(number: int = 0) -> dict[str, Any]:
    response = {"id": "resp_1", "status": "queued"}
    return {"type": "response.created", "sequence_number": number, "response": response}


def running(number: int) -> dict[str, Any]:
    return {"type": "response.in_progress", "sequence_number": number, "response": {}}


def delta(number: int, text: str, item: str) -> dict[str, Any]:
    place = {"output_index": 0, "content_index": 0, "item_id": item}
    kind = "response.output_text.delta"
    return {"type": kind, "sequence_number": number, "delta": text, **place}


def ended(number: int, text: str = "", **trailer: Any) -> dict[str, Any]:
    item = {"type": "message", "id": "m", "content": [{"type": "output_text", "text": text}]}
    response = {"id": "resp_1", "status": "completed", "output": [item], "holdline": trailer}
    return {"type": "response.completed", "sequence_number": number, "response": response}


def refused(status: int, **more: Any) -> dict[str, Any]:
    return {"type": "error", "status": status, "error": {"code": "c", "message": "m", **more}}


def resumes(exchange: Exchange, after: int, **shown: Any) -> list[dict[str, Any]]:
    message = {"type": "holdline:resume", "response_id": "resp_1", "starting_after": after}
    return [{**message, **shown, "stream_id": exchange.lane}]


CREATED = {"item_id": "", "event_type": "response.created"}


def test_a_request_is_resent_with_its_key_until_accepted_and_resumed_afterwards() -> None:
    exchange = asked()
    (first,) = exchange.opened(0)
    exchange.lost()
    assert [first] == exchange.opened(2)
    assert "k" == first["idempotency_key"]
    assert [] == exchange.received(created(), 3)
    exchange.lost()
    assert resumes(exchange, 0, **CREATED) == exchange.opened(5)


def test_an_unanswered_request_is_resent_a_few_times_and_then_fails() -> None:
    exchange = asked()
    sent, now = len(exchange.opened(0)), 0.0
    while not exchange.settled:
        now += ACCEPT_SECONDS
        sent += len(exchange.tick(now))
    assert ACCEPT_TRIES == sent
    assert isinstance(exchange.error, errors.Refused)


def test_a_request_is_not_resent_once_its_key_may_have_expired() -> None:
    late = asked()
    late.opened(0)
    late.lost()
    assert RESEND_SECONDS == late.due
    assert [] == late.opened(RESEND_SECONDS)
    assert isinstance(late.error, errors.OutcomeUnknown)
    away = asked()
    away.opened(0)
    away.lost()
    away.tick(RESEND_SECONDS)
    assert isinstance(away.error, errors.OutcomeUnknown)
    never_sent = asked()
    never_sent.lost()
    assert never_sent.due is None


def test_a_gap_is_requested_once_and_a_socket_that_cannot_fill_it_is_replaced() -> None:
    exchange = asked()
    exchange.opened(0)
    exchange.received(created(), 0)
    assert resumes(exchange, 0, **CREATED) == exchange.received(running(2), 0)
    assert [] == exchange.received(running(3), 0)
    assert isinstance(exchange.received(refused(409), 0), Renew)
    assert [] == exchange.received(running(1), 0)
    assert [] == exchange.received(refused(409), 0)


def test_a_resume_shows_the_item_of_the_last_event() -> None:
    exchange = asked()
    exchange.opened(0)
    for event in (created(), running(1), delta(2, "a", "msg_1")):
        exchange.received(event, 0)
    exchange.lost()
    assert resumes(
        exchange, 2, item_id="msg_1", event_type="response.output_text.delta"
    ) == exchange.opened(1)
    followed = Exchange(ResponseState("resp_1", 7, "msg_2"), jitter=lambda: 0.0)
    assert resumes(followed, 7, item_id="msg_2") == followed.opened(0)


def test_a_resumed_answer_is_padded_like_its_first_part() -> None:
    request = {"type": "response.create", "stream_options": {"include_obfuscation": True}}
    exchange = Exchange(ResponseState(), request=request, key="k", jitter=lambda: 0.0)
    exchange.opened(0)
    exchange.received(created(), 0)
    exchange.lost()
    assert resumes(exchange, 0, **CREATED, include_obfuscation=True) == exchange.opened(1)


def test_an_answer_whose_log_was_rolled_back_starts_over() -> None:
    exchange = asked()
    exchange.opened(0)
    for event in (created(), running(1), delta(2, "dead", "msg_1")):
        exchange.received(event, 0)
    loss = refused(410, code="response_rolled_back")
    assert [] == exchange.received(loss, 0)
    assert resumes(exchange, -1) == exchange.tick(1)
    assert ("", 1, "storage_loss") == (
        exchange.state.text,
        exchange.state.generation,
        exchange.state.restart_reason,
    )
    for event in (created(), running(1), delta(2, "new", "msg_2"), ended(3, "new")):
        exchange.received(event, 0)
    assert (True, "new", None) == (exchange.settled, exchange.state.text, exchange.error)


def test_a_pong_reveals_a_lost_last_event() -> None:
    exchange = asked()
    exchange.opened(0)
    exchange.received(created(), 0)
    assert [] == exchange.heard(0)
    assert resumes(exchange, 0, **CREATED) == exchange.heard(4)
    assert isinstance(exchange.heard(4), Renew)
    exchange.lost()
    exchange.opened(0)
    assert isinstance(exchange.heard(None), Renew)


def test_a_temporary_refusal_is_retried_for_a_limited_time() -> None:
    exchange = asked()
    exchange.opened(0)
    exchange.received(refused(429, headers={"Retry-After": "7"}), 0)
    assert (True, 7.0) == (exchange.busy, exchange.due)
    assert [] == exchange.tick(6)
    assert 1 == len(exchange.tick(7))
    for _ in range(BUSY_TRIES):
        assert not exchange.settled
        exchange.received(refused(503), 8)
    assert exchange.error is not None
    assert ("c", 503) == (exchange.error.code, exchange.error.status)


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_a_permanent_refusal_is_not_retried(status: int) -> None:
    exchange = asked()
    exchange.opened(0)
    exchange.received(refused(status, param="model"), 0)
    assert isinstance(exchange.error, errors.Refused)
    assert "model" == exchange.error.param
    assert [] == exchange.opened(1)


def test_an_oversized_request_fails_alone_and_keeps_the_socket() -> None:
    exchange = asked(input="x" * 100)
    assert [] == exchange.opened(0, 100)
    assert exchange.error is not None
    assert 413 == exchange.error.status


def test_a_stop_withdraws_an_unsent_request_and_cancels_an_accepted_one() -> None:
    unsent = asked()
    assert [] == unsent.stop()
    assert (True, "cancelled") == (unsent.settled, unsent.state.status)
    exchange = asked()
    exchange.opened(0)
    assert [] == exchange.stop()
    cancel = {"type": "response.cancel", "response_id": "resp_1"}
    assert [cancel] == exchange.received(created(), 0)
    exchange.lost()
    assert [*resumes(exchange, 0, **CREATED), cancel] == exchange.opened(0)


def test_a_text_with_a_wrong_checksum_is_fetched_again_once_and_then_reported() -> None:
    exchange = asked()
    exchange.opened(0)
    exchange.received(created(), 0)
    assert resumes(exchange, -1) == exchange.received(ended(1, "abc", bytes=4), 0)
    assert not exchange.settled
    assert "abc" == exchange.state.text
    exchange.received(created(), 0)
    exchange.received(ended(1, "abcd", bytes=4), 0)
    assert (True, None, "abcd") == (exchange.settled, exchange.error, exchange.state.text)
    assert (["abc", "d"], 0) == (exchange.state.deltas, exchange.state.generation)

    wrong = asked()
    wrong.opened(0)
    wrong.received(created(), 0)
    for _ in range(2):
        wrong.received(created(), 0)
        wrong.received(ended(1, "abc", bytes=4), 0)
    assert isinstance(wrong.error, errors.ChecksumMismatch)
    assert "abc" == wrong.state.text


def test_an_invalid_event_fails_only_its_own_answer() -> None:
    exchange = asked()
    exchange.opened(0)
    exchange.received(created(), 0)
    exchange.received({"type": "response.output_text.delta", "sequence_number": 1}, 0)
    assert isinstance(exchange.error, errors.Failed)


def test_a_resume_after_the_last_event_receives_it_again() -> None:
    exchange = Exchange(ResponseState("resp_1", 9), jitter=lambda: 0.0)
    exchange.opened(0)
    over = {"type": "holdline:ended", "response_id": "resp_1", "sequence_number": 9}
    assert resumes(exchange, 8) == exchange.received(over, 0)
    exchange.received(ended(9, "abc", bytes=3), 0)
    assert (True, "abc") == (exchange.settled, exchange.state.text)


def test_a_cancel_refused_by_a_busy_server_is_repeated() -> None:
    exchange = asked()
    exchange.opened(0)
    exchange.received(created(), 0)
    cancel = {"type": "response.cancel", "response_id": "resp_1"}
    assert [cancel] == exchange.stop()
    exchange.received(refused(503), 0)
    assert exchange.due is not None
    assert [*resumes(exchange, 0, **CREATED), cancel] == exchange.tick(exchange.due)
