"""Runs commands of `holdline` in the process of a test."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import click
import pytest

from command.root import holdline
from runtime import command_line
from tests.system import ROOT, module_command


def lines(environ: Mapping[str, str], name: str, *argv: str) -> AsyncIterator[str]:
    """Parses the arguments of a command, and yields the lines that it prints."""
    command = holdline.get_command(click.Context(holdline), name)
    assert command is not None
    found: AsyncIterator[str] = command.main(
        list(argv), prog_name=name, standalone_mode=False, obj=environ
    )
    return found


def run(*argv: str) -> int:
    """Runs a command with the environment of this process, and returns its exit status."""
    return command_line.run(holdline, "holdline", argv)


Run = Callable[..., tuple[int, str]]


def runner(name: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """Returns a function that runs one command, and returns its exit status and its output."""

    def run_one(*arguments: str) -> tuple[int, str]:
        code = run(name, *arguments)
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return run_one


def install(folder: Path) -> None:
    """Writes the command `holdline` of this checkout into a folder."""
    program = folder / "holdline"
    command = shlex.join(module_command("command"))
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec {command} "$@"\n')
    program.chmod(0o755)
