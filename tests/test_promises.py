"""Every promise and every program in the README names existing tests."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
README = (TESTS.parent / "README.md").read_text()


def test_every_promise_names_existing_tests() -> None:
    promises = re.findall(r"^\| (G\d+) \|.*$", README, re.MULTILINE)
    assert [f"G{number}" for number in range(1, 16)] == promises
    rows = re.findall(r"^\| G\d+ \|.*$", README, re.MULTILINE)
    for heading, least in (("On a page", 7), ("Works with", 8)):
        section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
        found = re.findall(r"^\| .*$", section, re.MULTILINE)[1:]
        assert len(found) >= least, heading
        rows += found
    for row in rows:
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", row)
        assert named, row
        for file, test in named:
            assert f"def {test}(" in (TESTS / file).read_text(), f"{file}::{test}"
