"""Tests errors and heartbeats, in many forms, where a chunk or an event is expected."""

from __future__ import annotations

import json
from typing import Any

import pytest

from worker.upstream.deltas import MAX_DEPTH, ErrorInStream, Malformed
from worker.upstream.failures import classify
from worker.upstream.payload import is_done, object_of


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"error": {"code": 429, "message": "no"}}, "upstream_busy"),
        ([{"error": {"code": 429, "message": "no"}}], "upstream_busy"),
        ({"error": True, "message": "Insufficient Balance"}, "upstream_unauthorized"),
        ({"type": "error", "message": "Overloaded"}, "upstream_busy"),
        ({"type": "response.error", "code": "rate_limit_exceeded"}, "upstream_busy"),
        ({"object": "error", "message": "no", "code": 404}, "upstream_model_not_found"),
        ({"status": "error", "message": "Too many requests"}, "upstream_busy"),
        ({"detail": "Insufficient credits"}, "upstream_unauthorized"),
        ({"code": 1113, "msg": "余额不足", "success": False}, "upstream_unauthorized"),
        ({"error_code": 1, "error_msg": "max input characters is 2"}, "upstream_input_too_long"),
        (
            {"success": False, "errors": [{"message": "No such model x"}]},
            "upstream_model_not_found",
        ),
        ({"throttlingException": {"message": "Too many tokens"}}, "upstream_busy"),
        ({"__type": "ValidationException", "message": "no"}, "upstream_rejected"),
        ({"base_resp": {"status_code": 1008, "status_msg": "no"}}, "upstream_error"),
        ({"choices": [{"delta": {}}], "error": {"code": 502}}, "upstream_error"),
    ],
)
def test_errors_are_recognized_in_each_form(error: Any, code: str) -> None:
    with pytest.raises(ErrorInStream) as raised:
        object_of(json.dumps(error).encode())
    assert code == classify(raised.value.error).code


@pytest.mark.parametrize(
    "value",
    [
        {"choices": [], "error": None},
        {"choices": [{"delta": {}}], "base_resp": {"status_code": 0}},
        {"code": 0, "message": "Success", "choices": [], "usage": {"total_tokens": 3}},
        {"type": "ping", "message": "still here"},
        {"type": "response.odd", "message": "hm"},
        {"type": "response.failed", "response": {"error": {"code": "server_error"}}},
        {"object": "response", "status": "failed", "error": {"code": "server_error"}},
    ],
)
def test_payloads_without_an_error_are_accepted(value: dict[str, Any]) -> None:
    assert value == object_of(json.dumps(value).encode())


@pytest.mark.parametrize("payload", [b"", b" ", b"null", b"ping", b'"ping"', b"[PING]"])
def test_heartbeats_are_accepted(payload: bytes) -> None:
    assert object_of(payload) is None


@pytest.mark.parametrize("payload", [b"[DONE]", b"[done]", b'"[DONE]"', b" [ Done ] ", b"DONE."])
def test_the_end_of_a_stream_is_recognized_in_any_spelling(payload: bytes) -> None:
    assert is_done(payload)


@pytest.mark.parametrize("payload", [b"", b"{}", b"[DONE] and more", b"undone"])
def test_no_other_payload_is_the_end_of_a_stream(payload: bytes) -> None:
    assert not is_done(payload)


@pytest.mark.parametrize("payload", [b"7", b"[]", b"hello", b'"hello"', b"{", b"Internal error"])
def test_other_payloads_are_malformed(payload: bytes) -> None:
    with pytest.raises(Malformed):
        object_of(payload)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 100, 300, 500, 2000, 100_000])
@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
@pytest.mark.parametrize("value", ["1", r'"\ud800"'])
def test_a_payload_that_is_nested_too_deeply_is_malformed(
    depth: int, begin: str, end: str, value: str
) -> None:
    def nested(levels: int) -> bytes:
        times = (levels - 1) // len(end)
        return f'{{"a":{begin * times}{value}{end * times}}}'.encode()

    with pytest.raises(Malformed):
        object_of(nested(depth + 1))
    assert object_of(nested(MAX_DEPTH)) is not None
