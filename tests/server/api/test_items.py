"""Tests which items of the input are accepted, refused or left out."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.ids import item_id, new_response_id
from server.api.items import Passed, stored
from server.api.problem import Problem
from server.api.request import parse_create
from server.api.results import check_results, without_void_results

CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c", "output": "5"}
SAID = {"type": "message", "role": "user", "content": []}


@pytest.mark.parametrize(
    ("before", "items"),
    [
        ([], []),
        ([], [SAID, CALL, RESULT]),
        ([SAID, CALL], [RESULT]),
        ([CALL, RESULT], [SAID]),
        ([CALL], [RESULT, RESULT]),
        ([{**CALL, "type": "custom_tool_call"}], [{**RESULT, "type": "custom_tool_call_output"}]),
        ([{"type": "compaction", "encrypted_content": "x"}], [RESULT]),
    ],
)
def test_a_result_after_its_call_is_accepted(before: list[Any], items: list[Any]) -> None:
    check_results(before, items, [])


@pytest.mark.parametrize(
    ("before", "items", "param"),
    [
        ([], [RESULT], "input[0].call_id"),
        ([], [RESULT, CALL], "input[0].call_id"),
        ([SAID], [SAID, {**CALL, "call_id": "d"}, RESULT], "input[2].call_id"),
        ([CALL], [{**RESULT, "type": "shell_call_output"}], "input[0].call_id"),
    ],
)
def test_the_error_of_a_result_without_a_call_names_its_place(
    before: list[Any], items: list[Any], param: str
) -> None:
    with pytest.raises(Problem) as refused:
        # Pending steers come before the client's own items.
        check_results(before, [SAID, *items], [Passed(item) for item in items])
    assert (400, param) == (refused.value.status, refused.value.param)


@pytest.mark.parametrize(
    ("before", "items", "kept"),
    [
        ([], [SAID, RESULT], [SAID]),
        ([SAID], [{**RESULT, "type": "tool_search_output"}], []),
        ([CALL], [RESULT], [RESULT]),
        ([], [CALL, RESULT], [CALL, RESULT]),
        ([], [{**RESULT, "call_id": "d"}], [{**RESULT, "call_id": "d"}]),
    ],
)
def test_only_the_results_of_void_calls_are_left_out(
    before: list[Any], items: list[Any], kept: list[Any]
) -> None:
    assert kept == without_void_results(before, items, frozenset({"c"}))
    assert items == without_void_results(before, items, frozenset())


def test_messages_and_reasoning_of_void_attempts_are_left_out() -> None:
    one, other = new_response_id(0), new_response_id(0)

    def message(response: str, attempt: int, index: int, claim: str = "ab12") -> dict[str, Any]:
        id_ = item_id("msg", response, attempt, index, claim)
        return {"type": "message", "role": "assistant", "content": f"{attempt}.{index}", "id": id_}

    reasoning = {"type": "reasoning", "id": item_id("rs", one, 1, 0, "ab12"), "summary": []}
    call = {**CALL, "id": item_id("fc", one, 1, 2, "ab12")}
    asked = {"type": "message", "role": "user", "content": "q", "id": item_id("msg", one, 0, 0)}
    reference = {"type": "item_reference", "id": item_id("msg", one, 1, 9, "ab12")}
    sent = [
        asked,
        reasoning,
        message(one, 1, 1),
        call,
        RESULT,
        reference,
        message(one, 2, 3, "cd34"),
        message(other, 1, 0),
    ]
    found = stored(parse_create({"model": "m", "input": sent}).items, lambda *_: "")
    assert ["q", "2.3", "1.0"] == [item["content"][0]["text"] for item in found if "role" in item]
    kinds = ["message", "function_call", "function_call_output", "item_reference", "message"]
    assert [*kinds, "message"] == [item["type"] for item in found]
