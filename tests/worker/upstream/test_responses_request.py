"""Tests the items that the reader produces from common servers' streams, with their quirks.

`tests/vectors/upstream/NAME.sse` is a stream written by hand from a server's documentation and from
reports of its actual behaviour; `NAME.json` holds the expected result.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.log.codec import Event
from jobs.log.items import Place
from tests.worker.toolboxes import toolbox_of
from worker.output import Output
from worker.upstream.chat.chunks import ChatChunkReader
from worker.upstream.deltas import Call, Stopped, Usage
from worker.upstream.sse import Splitter
from worker.upstream.usage import counted

VECTORS = sorted((Path(__file__).parents[2] / "vectors" / "upstream").glob("*.sse"))
MOST = 100_000


def pieces(stream: bytes, size: int) -> list[Any]:
    """Returns the deltas of a stream that arrives in chunks of `size` bytes."""
    splitter, chunks = Splitter(MOST), ChatChunkReader()
    found: list[Any] = []
    for at in range(0, len(stream), size):
        for payload in splitter.feed(stream[at : at + size]):
            if payload != b"[DONE]":
                found += chunks.read(payload)
    return found


class Nowhere:
    """A sink that discards events."""

    def add(self, *events: Event) -> None:
        """Discards the events."""

    def add_text(self, place: Place, text: str, logprobs: list[Any] | None = None) -> None:
        """Discards the text."""


def output(found: list[Any]) -> list[dict[str, Any]]:
    """Accumulates the deltas into items in the format of the test vectors."""
    items = Output(
        Nowhere(),
        "{}_{}".format,
        index=0,
        most=MOST,
        toolbox=toolbox_of(*(piece.name for piece in found if isinstance(piece, Call))),
    )
    for piece in found:
        if not isinstance(piece, Usage | Stopped):
            items.take(piece)
    return [told(item) for item in items.end(completed=True)]


def told(item: dict[str, Any]) -> dict[str, Any]:
    """Returns the item without generated ids and empty fields."""
    if item["type"] == "function_call":
        made = item["call_id"] == item["id"].replace("fc_", "call_")
        call_id = None if made else item["call_id"]
        return {**{name: item[name] for name in ("type", "name", "arguments")}, "call_id": call_id}
    parts = [{name: v for name, v in part.items() if v not in ([], "")} for part in item["content"]]
    return {"type": item["type"], "content": parts}


@pytest.mark.parametrize("size", [1, 7, 4096])
@pytest.mark.parametrize("vector", VECTORS, ids=lambda path: path.stem)
def test_a_stream_yields_the_expected_items(vector: Path, size: int) -> None:
    expected = json.loads(vector.with_suffix(".json").read_text())
    found = pieces(vector.read_bytes(), size)
    assert expected["output"] == output(found)
    assert [expected["reason"]] == [piece.reason for piece in found if isinstance(piece, Stopped)]
    usage = [piece.counts for piece in found if isinstance(piece, Usage)]
    if expected["usage"] is None:
        assert [] == usage
    else:
        assert expected["usage"] == flat(counted(usage[-1]))


def flat(usage: dict[str, Any]) -> dict[str, int]:
    """Returns the standard's usage object without its nesting."""
    return {
        "input_tokens": usage["input_tokens"],
        "output_tokens": usage["output_tokens"],
        "total_tokens": usage["total_tokens"],
        "cached_tokens": usage["input_tokens_details"]["cached_tokens"],
        "reasoning_tokens": usage["output_tokens_details"]["reasoning_tokens"],
    }
