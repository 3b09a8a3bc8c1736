"""Tests that no check of a request looks at each character of a text."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from jobs.config.models import Catalog, Model
from server.access.principal import Principal
from server.admission import admitted
from server.api.request import parse_create

TOOLS = [{"type": "function", "name": "f"}]
CATALOG = Catalog({"m": Model()}, "m")


def lines_executed(call: Callable[[], object]) -> int:
    """Returns the number of lines of Python that a call executes."""
    lines = 0

    def trace(frame: FrameType, event: str, _: Any) -> Callable[..., Any]:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return lines


@pytest.mark.parametrize("members", [{}, {"tool_choice": "required", "tools": TOOLS}])
def test_the_checks_of_a_string_do_not_depend_on_its_length(members: dict[str, Any]) -> None:
    def check(text: str) -> None:
        create = parse_create({"model": "m", "input": text, **members})
        admitted(create, Principal("acme"), CATALOG, {}, 1_000_000)

    check("x")  # fills the caches
    assert lines_executed(lambda: check("x")) == lines_executed(lambda: check("x" * 900_000))
