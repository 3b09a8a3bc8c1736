"""Streams of the servers that people run, with their quirks, through the reader to what it says.

`tests/vectors/upstream/NAME.sse` is what a server sends, made by hand from its documents and from
reports of what it really does; `NAME.json` says what that means.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from worker.chunks import DONE, Chunks, Stopped, Text, Usage
from worker.sse import Splitter
from worker.usage import counted

VECTORS = sorted((Path(__file__).parent.parent / "vectors" / "upstream").glob("*.sse"))
MOST = 100_000


def pieces(stream: bytes, size: int) -> list[Any]:
    """What the stream says if it comes in chunks of `size` bytes."""
    splitter, chunks = Splitter(MOST), Chunks()
    found: list[Any] = []
    for at in range(0, len(stream), size):
        for payload in splitter.feed(stream[at : at + size]):
            if payload != DONE:
                found += chunks.read(payload)
    return found


@pytest.mark.parametrize("size", [1, 7, 4096])
@pytest.mark.parametrize("vector", VECTORS, ids=lambda path: path.stem)
def test_a_stream_means(vector: Path, size: int) -> None:
    expected = json.loads(vector.with_suffix(".json").read_text())
    found = pieces(vector.read_bytes(), size)
    said = "".join(
        part.get("text", "") + part.get("refusal", "")
        for item in expected["output"]
        if item["type"] == "message"
        for part in item["content"]
    )
    assert said == "".join(piece.text for piece in found if isinstance(piece, Text))
    assert [expected["reason"]] == [piece.reason for piece in found if isinstance(piece, Stopped)]
    usage = [piece.counts for piece in found if isinstance(piece, Usage)]
    if expected["usage"] is None:
        assert [] == usage
    else:
        assert expected["usage"] == flat(counted(usage[-1]))


def flat(usage: dict[str, Any]) -> dict[str, int]:
    """The standard's usage without its nesting."""
    return {
        "input_tokens": usage["input_tokens"],
        "output_tokens": usage["output_tokens"],
        "total_tokens": usage["total_tokens"],
        "cached_tokens": usage["input_tokens_details"]["cached_tokens"],
        "reasoning_tokens": usage["output_tokens_details"]["reasoning_tokens"],
    }
