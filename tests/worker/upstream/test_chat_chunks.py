from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.upstream.chat.chunks import ChatChunkReader
from worker.upstream.deltas import (
    ErrorInStream,
    Malformed,
    Reasoning,
    Stopped,
    Text,
    Usage,
)


def chunk(delta: dict[str, Any] | None = None, reason: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": reason}
    return json.dumps({"choices": [choice], **more}).encode()


def escaped(*deltas: str) -> str:
    """The text of deltas that are given as the inside of a JSON string."""
    chunks = ChatChunkReader()
    payloads = [b'{"choices":[{"delta":{"content":"%b"}}]}' % delta.encode() for delta in deltas]
    pieces = [
        piece for payload in [*payloads, chunk(reason="stop")] for piece in chunks.read(payload)
    ]
    return "".join(piece.text for piece in pieces if isinstance(piece, Text))


def test_a_payload_may_hold_several_things() -> None:
    usage = {"prompt_tokens": 1}
    pieces = ChatChunkReader().read(chunk({"content": "a"}, "stop", usage=usage))
    assert [Text("a"), Stopped("stop"), Usage(usage)] == pieces


@pytest.mark.parametrize(
    "payload",
    [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": None}),
        chunk(),
        b'{"choices":[]}',
        b'{"choices":[{"delta":null}],"usage":null,"error":null}',
        b"",
        b" ",
        b"{}",
        b'{"choices":null,"usage":null}',
        b'{"type":"ping"}',
        b'{"type":"ping","message":"still here"}',
        b'{"id":"x","object":"chat.completion.chunk"}',
        b'{"choices":[{"index":1,"delta":{}}]}',
    ],
)
def test_what_means_nothing_is_no_piece(payload: bytes) -> None:
    assert [] == ChatChunkReader().read(payload)


def test_reasoning_is_a_sign_of_life() -> None:
    expected = [Reasoning("hm", "reasoning_content")]
    assert expected == ChatChunkReader().read(chunk({"reasoning_content": "hm"}))


@pytest.mark.parametrize(
    "payload",
    [
        b"{",
        b"[]",
        b"7",
        b'{"choices":{}}',
        b'{"choices":[7]}',
        b'{"choices":[{"delta":[]  ,"x":1}]} x',
        b'{"choices":[{"delta":"a"}]}',
        b'{"choices":[{"delta":{"content":7}}]}',
        b'{"choices":[{"delta":{},"finish_reason":7}]}',
        b'{"choices":[{"delta":{"content":"\xff\xfe"}}]}',
        b"[" * 100_000,
    ],
)
def test_another_shape_is_malformed(payload: bytes) -> None:
    with pytest.raises(Malformed):
        ChatChunkReader().read(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"error":{"message":"no"}}',
        b'{"error":"no","choices":[]}',
        b'{"choices":[{"error":{"code":502},"finish_reason":"error"}]}',
        b'{"message":"overloaded"}',
        b'{"object":"error","code":400}',
        b'{"type":"error"}',
        b'{"detail":"no"}',
        b'[{"error":{"code":400}}]',
    ],
)
def test_an_error_in_the_place_of_a_chunk_is_one_in_any_form(payload: bytes) -> None:
    with pytest.raises(ErrorInStream):
        ChatChunkReader().read(payload)


def test_an_error_keeps_nothing_of_what_it_says() -> None:
    with pytest.raises(ErrorInStream) as caught:
        ChatChunkReader().read(b'{"error":{"message":"your key sk-secret"}}')
    assert "secret" not in repr(caught.value)


@pytest.mark.parametrize(
    ("deltas", "text"),
    [
        ([r"\ud83d\ude00"], "😀"),
        ([r"\ud83d", r"\ude00"], "😀"),
        ([r"a\ud83d", "", r"\ude00b"], "a😀b"),
        ([r"\ud83d"], "\ufffd"),
        ([r"\ude00"], "\ufffd"),
        ([r"\ud83d", "a"], "\ufffda"),
        ([r"\ud83d", r"\ud83d\ude00"], "\ufffd😀"),
        ([r"\ude00\ud83d"], "\ufffd\ufffd"),
        (["é", "ü😀"], "éü😀"),
    ],
)
def test_halves_of_characters_are_joined_or_replaced(deltas: list[str], text: str) -> None:
    assert text == escaped(*deltas)


@given(st.lists(st.text(st.characters(codec=None, categories=None), max_size=6), max_size=6))
def test_whatever_a_provider_escapes_can_be_encoded(deltas: list[str]) -> None:
    text = escaped(*(json.dumps(delta)[1:-1] for delta in deltas))
    assert text == text.encode().decode()
    joined = "".join(deltas).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert joined == text
