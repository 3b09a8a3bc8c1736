"""Tests what all admin commands have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from admin import cli
from jobs.errors import HoldlineError


def test_an_error_has_no_control_characters_on_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def run(environ: Mapping[str, str], argv: Sequence[str]) -> AsyncIterator[str]:
        del environ, argv
        yield "first"
        raise HoldlineError("ERR \x1b[2J of a hostile Redis\nsecond line")

    assert 1 == cli.main("admin.some", run, [])
    shown = capsys.readouterr().err.splitlines()
    assert ["admin.some: ERR \\x1b[2J of a hostile Redis", "second line"] == shown
