"""Tests what all admin commands have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from admin import cli
from jobs.errors import HoldlineError


def test_an_error_has_no_control_characters_on_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def run() -> AsyncIterator[str]:
        yield "first"
        raise HoldlineError("ERR \x1b[2J of a hostile Redis\nsecond line")

    assert 1 == cli.show("holdline some", run(), {})
    shown = capsys.readouterr().err.splitlines()
    assert ["holdline some: ERR \\x1b[2J of a hostile Redis", "second line"] == shown
