"""Rules for the tests themselves: they wait for conditions and do not import other test modules."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
# Two sleeps need no comment: `await asyncio.sleep(0)` only yields to the loop, and a named duration
# is explained at its definition.
BARE_SLEEP = re.compile(r"\s*(await )?(asyncio|time)\.sleep\((?!0\))[\d.]+\)$")
IMPORTS_A_TEST = re.compile(r"from (tests\.[\w.]*|\.)test_\w+ import")


def found(pattern: re.Pattern[str]) -> list[str]:
    """Returns the locations of lines that start with the pattern."""
    return [
        f"{path.relative_to(HERE)}:{number}"
        for path in sorted(HERE.rglob("*.py"))
        if "node_modules" not in path.parts
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.match(line)
    ]


def test_a_sleep_has_a_comment_with_its_reason() -> None:
    """A test that waits for a condition uses `wait_until` of tests/system.py."""
    assert [] == found(BARE_SLEEP)


def test_no_test_imports_another() -> None:
    assert [] == found(IMPORTS_A_TEST)
