"""Tests that every command line of `holdline` in the documents and in the help can be parsed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from command.root import holdline
from tests.paths.documents import DOCUMENTS

# Commands that pass their arguments on to another parser.
PASSED_ON = {"ask"}
LINE = re.compile(r"(?:^|\$\(|\"|& )(?:[A-Z_]+=\S+ +)*(?:exec )?holdline +([a-z].*)$", re.MULTILINE)


def commands(command: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yields each command with its path, such as ("keys", "create")."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, *path, name)


COMMANDS = dict(commands(holdline))


def lines(code: str) -> set[str]:
    return {line.strip() for line in LINE.findall(code)}


def documented() -> dict[str, bool]:
    """Returns the command lines of the documents, and True for those in a block of code."""
    found: dict[str, bool] = {}
    for path in DOCUMENTS:
        text = path.read_text()
        for span in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text):
            found |= dict.fromkeys(lines(span), False)
        for block in re.findall(
            r"^ *```(?:sh|console)?\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL
        ):
            found |= dict.fromkeys(lines(block), True)
    return found


def in_help() -> set[str]:
    texts = [
        re.sub("^  ", "", command.help or "", flags=re.MULTILINE) for command in COMMANDS.values()
    ]
    return {line for text in texts for line in lines(text)}


def parse(line: str, *, whole: bool) -> None:
    """Parses the arguments of a command line, up to a pipe, a redirection or a comment."""
    line = re.split(r" *[|>&#;)…]| {2,}", line)[0].replace("[", "").rstrip("\\ ")
    words = shlex.split(line.rstrip("\"'") if line.count('"') % 2 or line.count("'") % 2 else line)
    command: click.Command = holdline
    path: tuple[str, ...] = ()
    while words and isinstance(command, click.Group):
        path = (*path, words.pop(0))
        assert path in COMMANDS, f"holdline {line}: there is no such command"
        command = COMMANDS[path]
    if not words or path[0] in PASSED_ON or "--help" in words:
        return
    try:
        with command.make_context(" ".join(path), words):
            pass
    except click.MissingParameter:
        assert not whole, f"holdline {line}: a parameter is missing"


@pytest.mark.parametrize(
    ("line", "whole"), sorted({**documented(), **dict.fromkeys(in_help(), True)}.items())
)
def test_a_documented_command_can_be_parsed(line: str, whole: bool) -> None:
    parse(line, whole=whole)


def test_the_search_finds_the_commands_of_all_places() -> None:
    assert "keys create acme" in {line.split("  ")[0] for line in documented()}
    assert {path[0] for path in COMMANDS if path} <= {line.split()[0] for line in in_help()}
