"""Tests what all admin commands have in common."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Mapping

import click
import pytest

from admin import cli
from admin.cli import Output
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


@pytest.mark.parametrize("wants_json", [False, True])
def test_a_closed_output_ends_a_command_without_a_traceback(
    wants_json: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Closed(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[None]:
        yield
        await asyncio.sleep(0)

    @click.command
    @cli.prints
    async def some(_environ: Mapping[str, str]) -> AsyncIterator[Output]:
        async with opened():
            yield Output("text", {})

    monkeypatch.setattr("sys.stdout", Closed())
    found = cli.lines(some, {}, ["--json"] if wants_json else [])
    with pytest.raises(BrokenPipeError):
        cli.show("holdline some", found, {})
    assert [] == caplog.messages
