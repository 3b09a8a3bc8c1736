"""Tests the numbers that people may write in settings and commands."""

from __future__ import annotations

import pytest

from runtime.number import parse_number, parse_whole


@pytest.mark.parametrize(
    ("written", "number"),
    [("0", 0), ("12", 12), ("+1", 1), ("-1.5", -1.5), (".5", 0.5), ("2.", 2), ("1e6", 1e6)],
)
def test_decimal_numbers_are_read(written: str, number: float) -> None:
    assert number == parse_number(written)


@pytest.mark.parametrize(
    "written",
    ["", " ", "x", "1 ", " 1", "1_000", "٣", "1٣", "³", "１", "inf", "nan", "-", ".", "1e", "0x10"],
)
def test_nothing_else_is_a_number(written: str) -> None:
    with pytest.raises(ValueError, match="is not a number"):
        parse_number(written)
    with pytest.raises(ValueError, match="is not a whole number"):
        parse_whole(written)


def test_whole_numbers_have_no_point_and_a_limited_length() -> None:
    assert [3, -3, 3] == [parse_whole(written) for written in ("3", "-3", "+3")]
    for written in ("3.0", "1e3", "9" * 20):
        with pytest.raises(ValueError, match="is not a whole number"):
            parse_whole(written)
