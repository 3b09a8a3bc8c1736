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
    """Reads the deltas, given as the content of JSON strings, and returns their joined text."""
    chunks = ChatChunkReader()
    payloads = [b'{"choices":[{"delta":{"content":"%b"}}]}' % delta.encode() for delta in deltas]
    pieces = [
        piece for payload in [*payloads, chunk(reason="stop")] for piece in chunks.read(payload)
    ]
    return "".join(piece.text for piece in pieces if isinstance(piece, Text))


def test_a_chunk_may_hold_several_pieces() -> None:
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
def test_chunks_without_content_yield_nothing(payload: bytes) -> None:
    assert [] == ChatChunkReader().read(payload)


def test_reasoning_deltas_count_as_activity() -> None:
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
def test_chunks_of_unknown_shape_are_malformed(payload: bytes) -> None:
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
def test_an_error_in_place_of_a_chunk_is_recognized_in_each_form(payload: bytes) -> None:
    with pytest.raises(ErrorInStream):
        ChatChunkReader().read(payload)


def test_an_error_does_not_keep_the_message_of_the_provider() -> None:
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
def test_surrogate_halves_are_joined_or_replaced(deltas: list[str], text: str) -> None:
    assert text == escaped(*deltas)


@given(st.lists(st.text(st.characters(codec=None, categories=None), max_size=6), max_size=6))
def test_text_with_any_escapes_can_be_encoded_as_utf_8(deltas: list[str]) -> None:
    text = escaped(*(json.dumps(delta)[1:-1] for delta in deltas))
    assert text == text.encode().decode()
    joined = "".join(deltas).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert joined == text
