"""Every defence in SECURITY.md names existing tests."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
SECURITY = (TESTS.parent / "SECURITY.md").read_text()


def test_every_defence_names_existing_tests() -> None:
    table = SECURITY.split("\n## What is defended\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| .*$", table, re.MULTILINE)[1:]
    assert len(rows) >= 15
    for row in rows:
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", row)
        assert named, row
        for file, test in named:
            assert f"def {test}(" in (TESTS / file).read_text(), f"{file}::{test}"
