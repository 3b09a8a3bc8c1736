"""Tests that a client's JSON must be one object within the limits.

Error messages must name the cause.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from server.api.json_body import MAX_DEPTH, MAX_VALUES, parse_json
from server.api.problem import Problem

DEEP = "[" * 5000 + "]" * 5000


@pytest.mark.parametrize(
    "data",
    [
        "",
        "{",
        "5",
        "[]",
        '"x"',
        "null",
        "{'a': 1}",
        '{"a": NaN}',
        b"\xff",
        DEEP,
        '{"a": "\\ud800"}',
    ],
)
def test_bodies_that_are_not_json_objects_are_refused(data: bytes | str) -> None:
    with pytest.raises(Problem) as refused:
        parse_json(data)

    assert (400, "invalid_json") == (refused.value.status, refused.value.code)


def test_lone_surrogates_and_invalid_utf_8_are_named_in_the_error() -> None:
    for data, why in (
        (b'{"input": "\\ud83d"}', r"escape sequence \\ud83d is an unpaired surrogate"),
        (b'{"input": "\xfc"}', "the text is not valid UTF-8"),
        (b'{"input": "\\ud83d\\ude00"', "truncated"),
    ):
        with pytest.raises(Problem, match=why):
            parse_json(data)


@pytest.mark.parametrize("kind", [str, str.encode], ids=["text", "bytes"])
def test_the_nesting_of_json_is_bounded(kind: Callable[[str], str | bytes]) -> None:
    def nested(depth: int) -> str | bytes:
        lists, objects = "[" * (depth - 2), "]" * (depth - 2)
        return kind(f'{{"a": {{"wide": [{"[]," * 99}[]], "deep": {lists}{objects}}}}}')

    assert {"a"} == parse_json(nested(MAX_DEPTH)).keys()
    with pytest.raises(Problem, match="at most 64 levels of nesting"):
        parse_json(nested(MAX_DEPTH + 1))


@pytest.mark.parametrize("kind", [str, str.encode], ids=["text", "bytes"])
@pytest.mark.parametrize("inner", ["0", "[]", "{}", '""'])
def test_the_number_of_values_in_json_is_bounded(
    kind: Callable[[str], str | bytes], inner: str
) -> None:
    def holding(values: int) -> str | bytes:
        return kind(f'{{"a": [{f"{inner}," * (values - 2)}{inner}]}}')

    assert {"a"} == parse_json(holding(MAX_VALUES)).keys()
    with pytest.raises(Problem, match="at most 100000 values"):
        parse_json(holding(MAX_VALUES + 1))


def test_commas_in_strings_do_not_count_as_values() -> None:
    parse_json('{"input": "' + "[{," * MAX_VALUES + '"}')
