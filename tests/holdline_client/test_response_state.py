"""The vectors of tests/web/response-state.test.js, and the text deltas of this client alone."""

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
def test_the_fold(vector: dict[str, Any]) -> None:
    fold = ResponseState()
    outcomes = [fold.apply(event) for event in vector["events"]]
    found = {
        "text": fold.text,
        "status": fold.status,
        "last": fold.last,
        "attempts": fold.attempts,
        "gaps": outcomes.count(Outcome.GAP),
    }
    assert vector["expect"] == found


@by_name
def test_the_pieces_since_the_last_change_of_generation_are_the_text(
    vector: dict[str, Any],
) -> None:
    fold = ResponseState()
    generation, said = 0, ""
    for event in vector["events"]:
        fold.apply(event)
        if fold.generation != generation:
            generation, said = fold.generation, ""
        assert "".join(fold.pieces).startswith(said)
        said = "".join(fold.pieces)
        assert said == fold.text


@by_name
def test_the_proof_is_that_of_the_text(vector: dict[str, Any]) -> None:
    fold = ResponseState()
    for event in vector["events"]:
        fold.apply(event)
    if fold.proof and fold.status != "failed":
        assert fold.verified() is True
        fold.proof["bytes"] = None
        fold.proof["sha256"] = "0" * 64
        assert fold.verified() is False


@by_name
def test_any_prefix_and_then_the_whole_log_gives_the_same_answer(vector: dict[str, Any]) -> None:
    if vector["expect"]["gaps"]:
        return
    events = vector["events"]
    for cut in range(len(events) + 1):
        fold = ResponseState()
        for event in [*events[:cut], *events]:
            fold.apply(event)
        assert (vector["expect"]["text"], vector["expect"]["status"]) == (fold.text, fold.status)


def test_who_begins_in_the_middle_is_handed_the_rest_and_has_the_whole_at_the_end() -> None:
    fold = ResponseState("resp_1", 4)
    assert Outcome.SEEN is fold.apply(delta(4, "no"))
    assert Outcome.GAP is fold.apply(delta(6, "no"))
    fold.apply(delta(5, "wor"))
    fold.apply(delta(6, "ld"))
    output = [
        {"type": "message", "id": "m", "content": [{"type": "output_text", "text": "Hello, world"}]}
    ]
    response = {"id": "resp_1", "status": "completed", "output": output}
    fold.apply({"type": "response.completed", "sequence_number": 7, "response": response})
    assert ("Hello, world", ["wor", "ld"], 0) == (fold.text, fold.pieces, fold.generation)


def test_text_that_does_not_stand_at_the_end_begins_a_new_generation() -> None:
    fold = ResponseState()
    fold.apply({"type": "response.in_progress", "sequence_number": 0, "response": {"id": "r"}})
    fold.apply(delta(1, "a", part=0))
    fold.apply(delta(2, "c", part=1))
    fold.apply(delta(3, "b", part=0))
    assert (["abc"], 1) == (fold.pieces, fold.generation)
