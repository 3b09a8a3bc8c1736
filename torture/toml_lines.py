"""Finds the lines of keys in a TOML file, which tomllib does not report."""

from __future__ import annotations

import re
from typing import Final

# The path of a key: names of tables and keys, and indexes of arrays of tables.
KeyPath = tuple[str | int, ...]

_HEADER: Final = re.compile(r"\s*(\[\[?)\s*([\w.\"' -]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY: Final = re.compile(r"\s*([\w.\"'-]+)\s*=")
_SYNTAX: Final = re.compile(r"\(at line (\d+), column \d+\)")


def line_of(text: str, path: KeyPath) -> int:
    """Returns the line of a key, or that of the closest table around it, or 0.

    Keys inside an inline table have the line of the table.
    """
    lines = _lines(text)
    for length in range(len(path), 0, -1):
        if (line := lines.get(path[:length])) is not None:
            return line
    return 0


def line_of_syntax_error(message: str) -> int:
    """Returns the line in a message of tomllib, or 0."""
    found = _SYNTAX.search(message)
    return int(found[1]) if found else 0


def show(path: KeyPath) -> str:
    """Returns a path in the notation `process[2].ready.tcp`, in which the first index is 1."""
    shown = ""
    for part in path:
        shown += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if shown else part
    return shown


def _lines(text: str) -> dict[KeyPath, int]:
    found: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            names = _names(header[2])
            table = ()
            for name in names[:-1]:
                table = _latest((*table, name), counts)
            array: KeyPath = (*table, names[-1])
            if header[1] == "[[":
                counts[array] = counts.get(array, 0) + 1
                found.setdefault(array, number)
            table = _latest(array, counts)
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            found.setdefault((*table, *_names(key[1])), number)
    return found


def _names(dotted: str) -> list[str]:
    return [name.strip().strip("\"'") for name in dotted.split(".")]


def _latest(path: KeyPath, counts: dict[KeyPath, int]) -> KeyPath:
    """Adds the index of the latest table, if the path is that of an array of tables."""
    return (*path, counts[path] - 1) if path in counts else path
