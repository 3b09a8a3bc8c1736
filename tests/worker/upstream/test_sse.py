from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.upstream.sse import EventTooLarge, Splitter

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "sse.json").read_text())["vectors"]


def payloads(chunks: list[bytes]) -> list[str]:
    splitter = Splitter(1000)
    return [payload.decode("latin-1") for chunk in chunks for payload in splitter.feed(chunk)]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_a_stream_is_split_into_payloads(vector: dict[str, Any]) -> None:
    chunks = [chunk.encode("latin-1") for chunk in vector["chunks"]]
    assert vector["payloads"] == payloads(chunks)
    assert vector["payloads"] == payloads([b"".join(chunks)])
    assert vector["payloads"] == payloads([bytes([byte]) for byte in b"".join(chunks)])


@given(
    vector=st.sampled_from(VECTORS),
    cuts=st.lists(st.integers(min_value=0, max_value=60), max_size=8),
)
def test_payloads_do_not_depend_on_chunk_boundaries(
    vector: dict[str, Any], cuts: list[int]
) -> None:
    whole = "".join(vector["chunks"]).encode("latin-1")
    at = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    assert vector["payloads"] == payloads([whole[a:b] for a, b in itertools.pairwise(at)])


@pytest.mark.parametrize(
    "stream",
    [
        b"data: " + b"x" * 40,
        b"data: " + b"x" * 40 + b"\n",
        b"data: xxxxxxxxxx\n" * 4,
        b": " + b"x" * 40,
    ],
    ids=["a line without an end", "a long line", "many lines", "a comment without an end"],
)
def test_the_size_of_an_event_is_bounded(stream: bytes) -> None:
    splitter = Splitter(32)
    with pytest.raises(EventTooLarge):
        for byte in stream:
            splitter.feed(bytes([byte]))


def test_the_bound_applies_to_events_and_not_to_the_stream() -> None:
    splitter = Splitter(32)
    assert 1000 == sum(len(splitter.feed(b"data: 0123456789\n\n")) for _ in range(1000))
