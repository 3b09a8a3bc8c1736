"""Tests that the time for an answer grows with its length, and not with the square of it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from jobs.log.items import Place, apply, delta

# 12 MB of four-byte characters. To copy the text for each piece would take 18 GB of copies.
PIECE, PIECES = "🙂" * 1000, 3000
LIMIT_SECONDS = 0.5


@pytest.mark.parametrize(
    ("item", "event"),
    [
        (
            {"id": "i", "content": [{"text": ""}]},
            delta(Place("output_text", "i", 0, 0), PIECE, None),
        ),
        (
            {"id": "i", "content": [{"refusal": ""}]},
            delta(Place("refusal", "i", 0, 0), PIECE, None),
        ),
        (
            {"id": "i", "content": [{"text": ""}]},
            delta(Place("reasoning_text", "i", 0, 0), PIECE, None),
        ),
        (
            {"id": "i", "summary": [{"text": ""}]},
            delta(Place("summary_text", "i", 0, 0), PIECE, None),
        ),
        (
            {"arguments": ""},
            {"type": "response.function_call_arguments.delta", "delta": PIECE},
        ),
        ({}, {"type": "response.custom_tool_call_input.delta", "delta": PIECE}),
        (
            {"action": {"commands": [""]}},
            {"type": "response.shell_call_command.delta", "command_index": 0, "delta": PIECE},
        ),
    ],
    ids=["text", "refusal", "reasoning", "summary", "arguments", "input", "command"],
)
def test_a_long_text_of_many_pieces_takes_linear_time(
    item: dict[str, Any], event: dict[str, Any]
) -> None:
    began = time.process_time()
    for _ in range(PIECES):
        apply(item, event)
    assert time.process_time() - began < LIMIT_SECONDS
    assert PIECE * PIECES in str(item)
