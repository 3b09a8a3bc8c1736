"""Tests that each promise and each program in the documents names existing tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PROMISES = (ROOT / "docs/promises.md").read_text()


@pytest.mark.parametrize(
    ("file", "heading", "least"),
    [
        ("SECURITY.md", "What is defended", 15),
        ("docs/programs.md", "Clients", 8),
        ("docs/programs.md", "Model endpoints", 3),
        ("docs/promises.md", "The service", 15),
        ("docs/promises.md", "The widget", 8),
    ],
)
def test_every_row_names_existing_tests(file: str, heading: str, least: int) -> None:
    section = (ROOT / file).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| .*$", section, re.MULTILINE)[1:] or section.split("\n### ")[1:]
    assert len(rows) >= least
    for row in rows:
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", row)
        assert named, row
        for path, test in named:
            assert f"def {test}(" in (TESTS / path).read_text(), f"{path}::{test}"


def test_the_promises_are_numbered() -> None:
    numbers = re.findall(r"^### (G\d+): .*$", PROMISES, re.MULTILINE)
    assert [f"G{number}" for number in range(1, 19)] == numbers
