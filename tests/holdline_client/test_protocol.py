"""Tests the messages that the client reads and writes."""

from __future__ import annotations

import pytest

from holdline_client.backoff import LONGEST, LONGEST_STATED, SHORTEST, delay, tries_after_loss
from holdline_client.protocol import close_advice, parse_frame, socket_url
from holdline_client.terminal import harmless
from server.api.close_codes import CloseCode


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h:1", "ws://h:1/v1/responses"),
        ("https://h/", "wss://h/v1/responses"),
        ("http://h/v1", "ws://h/v1/responses"),
        ("http://h/v1/", "ws://h/v1/responses"),
        ("http://h/deep/v1", "ws://h/deep/v1/responses"),
        ("wss://h/v1/responses", "wss://h/v1/responses"),
        ("ws://h/v1/responses?a=b#c", "ws://h/v1/responses?a=b"),
    ],
)
def test_the_url_of_a_server_is_mapped_to_its_websocket_url(url: str, expected: str) -> None:
    assert expected == socket_url(url)


@pytest.mark.parametrize("url", ["", "h:1", "ftp://h", "http://"])
def test_an_invalid_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="http://host:port"):
        socket_url(url)


@pytest.mark.parametrize("frame", [b"{}", "", "[]", "{", "null", "{}", '{"type":1}', "[" * 99_999])
def test_frames_that_are_not_events_are_ignored(frame: object) -> None:
    assert parse_frame(frame) is None


def test_the_client_and_the_server_agree_on_the_meaning_of_close_codes() -> None:
    for code in CloseCode:
        assert code.come_back == close_advice(code).come_back, code
    for other in (1005, 1006, 1001, 3999, 4999):
        assert close_advice(other).come_back
    assert 0.5 == close_advice(1012, "retry_after_ms=500").after
    assert close_advice(4429).after > 0


def test_the_first_retry_is_immediate_and_later_delays_are_drawn_from_a_growing_range() -> None:
    top = 1 - 2**-53
    assert [0.0, 0.0] == [delay(0, 0.0), delay(0, top)]
    ceilings = [round(delay(tries, top), 2) for tries in (1, 2, 3, 8, 9, 100)]
    assert [1.0, 1.5, 2.25, 17.09, 20.0, 20.0] == ceilings
    assert (SHORTEST + LONGEST) / 2 == delay(100, 0.5)


def test_the_delay_requested_by_the_server_is_respected_up_to_a_bound() -> None:
    assert 7.0 == delay(0, 0.0, 7.0)
    assert delay(0, 0.9, 1e9) <= LONGEST_STATED + SHORTEST
    assert (4, 0) == (tries_after_loss(4, 4.9), tries_after_loss(4, 5.0))


def test_control_characters_are_escaped_in_the_output() -> None:
    assert "a\tb\nc␛[31m␇\ufffd" == harmless("a\tb\r\nc\x1b[31m\x07\x9b")
