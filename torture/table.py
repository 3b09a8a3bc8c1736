"""A table of a TOML file, whose errors name the key and the line."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from torture.errors import TargetError
from torture.toml_lines import KeyPath, line_of, line_of_syntax_error, show

REQUIRED: Final[Any] = object()


@dataclass
class Source:
    """A TOML file and its text."""

    path: Path
    text: str


@dataclass
class Table:
    """Reads the values of one table by name. `close` rejects the names that were not read."""

    source: Source
    values: dict[str, Any]
    key_path: KeyPath = ()
    _known: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Table:
        """Reads a file.

        Raises:
            TargetError: the file cannot be read, or is not TOML.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise TargetError(path, 0, "", f"cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise TargetError(path, 0, "", f"cannot be read: {error}") from None
        try:
            return cls(Source(path, text), tomllib.loads(text))
        except RecursionError:
            raise TargetError(path, 0, "", "is nested too deeply") from None
        except tomllib.TOMLDecodeError as error:
            raise TargetError(path, line_of_syntax_error(str(error)), "", str(error)) from None

    def line(self, name: str) -> int:
        """Returns the line of a key of this table."""
        return line_of(self.source.text, (*self.key_path, name))

    def error(self, name: str | int, reason: str) -> TargetError:
        """Returns the error of a key of this table."""
        path = (*self.key_path, name) if name != "" else self.key_path
        return TargetError(self.source.path, line_of(self.source.text, path), show(path), reason)

    def text(self, name: str, default: str = REQUIRED) -> str:
        """Returns a string that is not empty, unless the default is."""
        value = self._value(name, default)
        if not isinstance(value, str):
            raise self.error(name, "must be a string")
        if not value and default != "":
            raise self.error(name, "must not be empty")
        return value

    def texts(self, name: str, default: tuple[str, ...] = REQUIRED) -> tuple[str, ...]:
        """Returns a list of strings."""
        value = self._value(name, default)
        if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
            raise self.error(name, "must be a list of strings")
        if not value and default != ():
            raise self.error(name, "must not be empty")
        return tuple(value)

    def commands(self, name: str) -> tuple[tuple[str, ...], ...]:
        """Returns a list of commands, each of which is a list of strings."""
        value = self._value(name, ())
        valid = isinstance(value, (list, tuple)) and all(
            isinstance(command, list) and command and all(isinstance(word, str) for word in command)
            for command in value
        )
        if not valid:
            raise self.error(name, 'must be a list of commands, such as [["npm", "ci"]]')
        return tuple(tuple(command) for command in value)

    def number(self, name: str, default: float, minimum: float, maximum: float) -> float:
        """Returns a number between two bounds."""
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error(name, "must be a number")
        if not minimum <= value <= maximum:
            raise self.error(name, f"must be between {minimum:g} and {maximum:g}")
        return value

    def integer(self, name: str, default: int, minimum: int, maximum: int) -> int:
        """Returns a whole number between two bounds."""
        value = self.number(name, default, minimum, maximum)
        if not isinstance(value, int):
            raise self.error(name, "must be a whole number")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        """Returns true or false."""
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise self.error(name, "must be true or false")
        return value

    def choices(
        self, name: str, choices: Collection[str], default: tuple[str, ...] = REQUIRED
    ) -> frozenset[str]:
        """Returns a set of words, all of which are among the choices."""
        words = self.texts(name, default)
        for word in words:
            if word not in choices:
                raise self.error(name, f"{word!r} is not one of {', '.join(sorted(choices))}")
        return frozenset(words)

    def pairs(self, name: str) -> dict[str, str]:
        """Returns a table of strings."""
        inner = self.table(name)
        return {key: inner.text(key, "") for key in inner.values}

    def table(self, name: str) -> Table:
        """Returns a table inside this one, which is empty if it does not exist."""
        value = self._value(name, {})
        if not isinstance(value, dict):
            raise self.error(name, "must be a table")
        return Table(self.source, value, (*self.key_path, name))

    def tables(self, name: str) -> list[Table]:
        """Returns an array of tables."""
        value = self._value(name, [])
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise self.error(name, f"must be an array of tables: [[{name}]]")
        return [
            Table(self.source, one, (*self.key_path, name, index))
            for index, one in enumerate(value)
        ]

    def close(self) -> None:
        """Rejects the first key that has not been read, and suggests the nearest known one."""
        for name in self.values:
            if name not in self._known:
                near = difflib.get_close_matches(name, self._known, 1)
                known = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(self._known)}"
                raise self.error(name, f"unknown key; {known}")

    def _value(self, name: str, default: Any) -> Any:
        if name not in self._known:
            self._known.append(name)
        if name in self.values:
            return self.values[name]
        if default is REQUIRED:
            raise self.error("", f"{name} is missing")
        return default
