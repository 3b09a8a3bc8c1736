"""The README promises nothing for which it does not name a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
README = (TESTS.parent / "README.md").read_text()


def test_every_promise_names_tests_that_exist() -> None:
    promises = re.findall(r"^\| (G\d+) \|.*$", README, re.MULTILINE)
    assert len(promises) >= 14
    for row in re.findall(r"^\| G\d+ \|.*$", README, re.MULTILINE):
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", row)
        assert named, row
        for file, test in named:
            assert f"def {test}(" in (TESTS / file).read_text(), f"{file}::{test}"
