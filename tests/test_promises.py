"""The README promises nothing, and names no program, without a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
README = (TESTS.parent / "README.md").read_text()


def test_every_promise_names_tests_that_exist() -> None:
    promises = re.findall(r"^\| (G\d+) \|.*$", README, re.MULTILINE)
    assert len(promises) >= 14
    works_with = README.split("\n## Works with\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| .*$", works_with, re.MULTILINE)[1:]
    assert len(rows) >= 8
    for row in [*re.findall(r"^\| G\d+ \|.*$", README, re.MULTILINE), *rows]:
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", row)
        assert named, row
        for file, test in named:
            assert f"def {test}(" in (TESTS / file).read_text(), f"{file}::{test}"
