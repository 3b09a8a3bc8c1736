"""Tests that the table "Every input" in docs/limits.md states the limits in the code."""

from __future__ import annotations

import importlib
import re

import pytest

from jobs.config.settings_table import SETTINGS
from tests.paths.documents import PROTOCOL, REFERENCE, ROOT, table
from tests.system import PREFIX

LIMITS = (ROOT / "docs/limits.md").read_text()
ROWS = table(LIMITS, "Every input")
NAMED = {pair for row in ROWS for pair in re.findall(r"`([\w.]+)` = (\d+)", row[4])}


def test_each_row_documents_the_bound_of_an_input() -> None:
    assert len(ROWS) > 20
    for name, before, while_, _, named, beyond in ROWS:
        assert all((before, while_, beyond)), name
        assert re.sub(r"`[\w.]+` = \d+(, )?", "", named) == "", name


@pytest.mark.parametrize(("name", "value"), sorted(NAMED))
def test_each_documented_limit_matches_the_code(name: str, value: str) -> None:
    if name in SETTINGS:
        found = SETTINGS[name].default
    else:
        module, _, constant = name.rpartition(".")
        found = getattr(importlib.import_module(PREFIX + module), constant)
    assert float(value) == found


def test_each_error_code_of_a_limit_is_in_the_protocol() -> None:
    codes = {code for row in ROWS for code in re.findall(r"`([a-z_]+)`", row[5])}
    assert set() == {code for code in codes if f"`{code}`" not in PROTOCOL + REFERENCE}
