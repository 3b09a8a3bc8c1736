"""Tests that the checks of an answer notice what is lost, repeated, mixed or wrong."""

from __future__ import annotations

from typing import Any

import pytest

from torture.answer import Answer
from torture.errors import Broken
from torture.model.formats import Responses
from torture.model.script import Script, read
from torture.model.text import answer, describe, piece
from torture.sse import EventParser


def events(pieces: int = 3) -> list[dict[str, Any]]:
    written = Responses("1", {})
    text = answer(1, "p", 1, pieces)
    found = list(written.first())
    found += [written.piece(piece(1, "p", 1, number)) for number in range(pieces)]
    found += written.last(text, pieces, "")
    return [event for _, event in found]


def folded(given: list[dict[str, Any]]) -> Answer:
    found = Answer()
    for event in given:
        found.add(event)
    return found


def without_numbers(given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in event.items() if k != "sequence_number"} for event in given]


@pytest.mark.parametrize("wrong", [{}, {"sequence_number": True}, {"sequence_number": "1"}])
def test_events_without_numbers_are_judged_by_the_order_of_arrival(wrong: dict[str, Any]) -> None:
    found = folded([{**event, **wrong} for event in without_numbers(events())])
    assert answer(1, "p", 1, 3) == found.text == found.delta_text
    with pytest.raises(Broken, match="has no sequence_number"):
        found.check_numbered()


def test_a_whole_answer_is_accepted() -> None:
    found = folded(events())
    assert found.ended
    assert answer(1, "p", 1, 3) == found.text == found.delta_text
    found.check_numbered()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: [*e[:5], *e[6:]], "differs from the deltas"),
        (lambda e: [*e[:6], e[5], *e[6:]], "event 5 .* arrived after event 5"),
        (lambda e: [*e[:5], e[6], e[5], *e[7:]], "event 5 .* arrived after event 6"),
        (lambda e: [*e[:2], *e[3:]], "before response.output_item.added"),
        (lambda e: [*e, {**e[-1], "sequence_number": 99}], "follows the last event"),
        (lambda e: [*e, {"type": "response.late"}], "response.late follows the last event"),
        (lambda e: without_numbers([*e[:5], e[6], e[5], *e[7:]]), "differs from the deltas"),
    ],
)
def test_a_wrong_sequence_of_events_is_noticed(change: Any, message: str) -> None:
    with pytest.raises(Broken, match=message):
        folded(change(events()))


def test_a_final_output_that_differs_from_the_deltas_is_noticed() -> None:
    given = events()
    given[-1]["response"]["output"][0]["content"][0]["text"] = "other"
    with pytest.raises(Broken, match=r"output of response\.completed differs"):
        folded(given)


def test_a_missing_end_is_noticed() -> None:
    with pytest.raises(Broken, match="without a terminal event"):
        assert folded(events()[:-1]).final


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("c1p0:a c1p2:c ", "1 of 3 pieces are missing: 1"),
        ("c1p0:a c1p1:b c1p1:b c1p2:c ", "1 pieces arrived more than once: 1"),
        ("c1p1:a c1p0:b c1p2:c ", "the pieces are not in order"),
        ("c1p0:a c2p1:b c2p2:c ", "it mixes the pieces of the calls 1, 2"),
        ("", "no piece of 3 arrived"),
    ],
)
def test_a_wrong_text_is_described(text: str, message: str) -> None:
    assert message in describe(text, 3)


def test_texts_depend_on_the_seed_and_the_call() -> None:
    assert answer(1, "p", 1, 50) == answer(1, "p", 1, 50)
    assert answer(1, "p", 1, 50) != answer(2, "p", 1, 50)
    assert answer(1, "p", 1, 50) != answer(1, "p", 2, 50)
    assert 100 == len(piece(1, "p", 1, 7, 100).encode())


def test_a_script_survives_a_prompt() -> None:
    script = Script(id="a1", pieces=7, pace_ms=1.5, do="cut", at=3, times=2)
    assert script == read(f"Earlier [torture id=b2]. {script.write()} Thanks.")
    assert ["cut", "cut", "ok"] == [script.act(call) for call in (1, 2, 3)]


def test_a_prompt_without_a_script_gets_the_usual_answer() -> None:
    assert Script() == read("Why is the sky blue?")


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_events_are_found_wherever_the_bytes_are_cut(cut: int) -> None:
    content = 'event: a\ndata: {"x": "日本"}\n\n: ping\n\ndata: one\ndata: two\r\n\r\n'.encode()
    parser = EventParser()
    found = [*parser.feed(content[:cut]), *parser.feed(content[cut:])]
    assert ['{"x": "日本"}', "one\ntwo"] == found
