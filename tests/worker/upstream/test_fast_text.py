"""Tests that the fast parser returns either the full parser's result or None."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.upstream.chat.chunks import ChatChunkReader
from worker.upstream.chat.fast_text import take_texts
from worker.upstream.deltas import Text

LEAF: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.just([]) | st.just({})
)
FIELDS = [
    "role",
    "reasoning_content",
    "reasoning",
    "reasoning_details",
    "refusal",
    "tool_calls",
    "function_call",
    "reasoning_text",
    "thinking",
    "annotations",
    "odd",
]
DELTA = st.fixed_dictionaries(
    {"content": st.text(min_size=1, max_size=8) | LEAF},
    optional=dict.fromkeys(FIELDS, LEAF),
)
CHOICE = st.fixed_dictionaries(
    {"delta": DELTA},
    optional={"finish_reason": st.none() | st.just("stop")}
    | dict.fromkeys(("index", "logprobs", "usage", "finishReason", "stop_reason"), LEAF),
)
CHUNK = st.fixed_dictionaries(
    {"choices": st.lists(CHOICE, min_size=1, max_size=2)},
    optional={"error": LEAF, "usage": LEAF, "x_groq": LEAF, "id": LEAF},
)


def decode_text(payload: bytes) -> str | None:
    payloads = deque([payload])
    texts = take_texts(payloads)
    assert 1 == len(texts) + len(payloads)
    return texts[0] if texts else None


@given(CHUNK, st.booleans())
def test_the_fast_parser_agrees_with_the_full_parser(chunk: Any, ascii_only: bool) -> None:
    payload = json.dumps(chunk, ensure_ascii=ascii_only).encode(errors="replace")
    if text := decode_text(payload):
        assert [Text(text)] == ChatChunkReader().read(payload)


PLAIN = {
    "openai": '{"id":"c","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}',
    "azure": '{"choices":[{"content_filter_results":{"hate":{"filtered":false}},'
    '"delta":{"content":"a","refusal":null},"logprobs":null}],"usage":null}',
    "vllm": '{"choices":[{"delta":{"content":"a","reasoning_content":null}}]}',
    "ollama": '{"choices":[{"delta":{"role":"assistant","content":"a"},"finish_reason":null}]}',
}


@pytest.mark.parametrize("payload", PLAIN.values(), ids=PLAIN)
def test_ordinary_token_chunks_take_the_fast_path(payload: str) -> None:
    assert "a" == decode_text(payload.encode())


@pytest.mark.parametrize(
    "payload",
    [
        b"[DONE]",
        b"[" * 100_000,
        b'{"choices":[{"delta":{"content":"\xff"}}]}',
        b'{"choices":[{"delta":{"content":"\\ud83d"}}]}',
        b'{"choices":[{"delta":{"content":""}}]}',
        b'{"choices":[]}',
    ],
)
def test_other_chunks_are_left_to_the_full_parser(payload: bytes) -> None:
    assert decode_text(payload) is None


def test_text_after_half_a_surrogate_pair_is_left_to_the_full_parser() -> None:
    chunks = ChatChunkReader()
    assert [] == chunks.read(b'{"choices":[{"delta":{"content":"\\ud83d"}}]}')
    rest = b'{"choices":[{"delta":{"content":"a"}}]}'
    assert [] == chunks.fast_texts(deque([rest]))
    assert [Text("\ufffda")] == chunks.read(rest)
    assert ["a"] == chunks.fast_texts(deque([rest]))


def test_the_payload_after_the_last_text_remains() -> None:
    text = PLAIN["openai"].encode()
    payloads = deque([text, text, b"[DONE]", text])
    assert ["a", "a"] == take_texts(payloads)
    assert [b"[DONE]", text] == list(payloads)
