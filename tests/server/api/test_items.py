"""Tests that a function call's result must follow the call, in the same or in a later request."""

from __future__ import annotations

from typing import Any

import pytest

from server.api.items import check_results, without_void_results
from server.api.problem import Problem

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
    check_results(before, items)


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
        check_results(before, items)
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
