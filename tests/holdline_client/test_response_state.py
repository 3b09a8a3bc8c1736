"""Tests the response state with the vectors of tests/web/response-state.test.js.

Also tests text deltas.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from holdline_client.response_state import Outcome, ResponseState

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "response-state.json").read_text())
by_name = pytest.mark.parametrize("vector", VECTORS, ids=[v["name"] for v in VECTORS])


def delta(number: int, text: str, part: int = 0) -> dict[str, Any]:
    return {
        "type": "response.output_text.delta",
        "sequence_number": number,
        "output_index": 0,
        "content_index": part,
        "item_id": "m",
        "delta": text,
    }


@by_name
def test_events_lead_to_the_expected_state(vector: dict[str, Any]) -> None:
    state = ResponseState()
    outcomes = [state.apply(event) for event in vector["events"]]
    found = {
        "text": state.text,
        "status": state.status,
        "last": state.last,
        "attempts": state.attempts,
        "gaps": outcomes.count(Outcome.GAP),
    }
    assert vector["expect"] == found


@by_name
def test_the_deltas_since_the_last_generation_change_add_up_to_the_text(
    vector: dict[str, Any],
) -> None:
    state = ResponseState()
    generation, said = 0, ""
    for event in vector["events"]:
        state.apply(event)
        if state.generation != generation:
            generation, said = state.generation, ""
        assert "".join(state.deltas).startswith(said)
        said = "".join(state.deltas)
        assert said == state.text


@by_name
def test_the_checksum_matches_the_text(vector: dict[str, Any]) -> None:
    state = ResponseState()
    for event in vector["events"]:
        state.apply(event)
    if state.trailer and state.status != "failed":
        assert state.verified() is True
        state.trailer["bytes"] = None
        state.trailer["sha256"] = "0" * 64
        assert state.verified() is False


@by_name
def test_a_prefix_followed_by_the_whole_log_gives_the_same_answer(vector: dict[str, Any]) -> None:
    if vector["expect"]["gaps"]:
        return
    events = vector["events"]
    for cut in range(len(events) + 1):
        state = ResponseState()
        for event in [*events[:cut], *events]:
            state.apply(event)
        assert (vector["expect"]["text"], vector["expect"]["status"]) == (state.text, state.status)


def test_a_follower_that_starts_in_the_middle_has_the_whole_answer_at_the_end() -> None:
    state = ResponseState("resp_1", 4)
    assert Outcome.SEEN is state.apply(delta(4, "no"))
    assert Outcome.GAP is state.apply(delta(6, "no"))
    state.apply(delta(5, "wor"))
    state.apply(delta(6, "ld"))
    output = [
        {"type": "message", "id": "m", "content": [{"type": "output_text", "text": "Hello, world"}]}
    ]
    response = {"id": "resp_1", "status": "completed", "output": output}
    state.apply({"type": "response.completed", "sequence_number": 7, "response": response})
    assert ("Hello, world", ["wor", "ld"], 0) == (state.text, state.deltas, state.generation)


def test_text_inserted_before_the_end_starts_a_new_generation() -> None:
    state = ResponseState()
    state.apply({"type": "response.in_progress", "sequence_number": 0, "response": {"id": "r"}})
    state.apply(delta(1, "a", part=0))
    state.apply(delta(2, "c", part=1))
    state.apply(delta(3, "b", part=0))
    assert (["abc"], 1) == (state.deltas, state.generation)
