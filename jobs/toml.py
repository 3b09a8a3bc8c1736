"""Reading the tables of a TOML file: each value checked, each fault named with its table and key.

Pure: the text comes from `environment.models`, and who reads a table says what may be in it.
"""

from __future__ import annotations

import difflib
import tomllib
from typing import TYPE_CHECKING, Any

from .errors import HoldlineError

if TYPE_CHECKING:
    from collections.abc import Iterator


class WrongTable(HoldlineError):
    """The file says something that cannot be meant; the message names the place."""


def parse(text: str) -> Table:
    """The whole file as a table.

    Raises: WrongTable, which names the line where the text is no TOML.
    """
    try:
        return Table("", tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise WrongTable(f"this is not TOML: {error}") from None


class Table:
    """One table. Take what may be in it; `done` then refuses what was not taken.

    Every method raises WrongTable.
    """

    def __init__(self, name: str, values: dict[str, Any]) -> None:
        self.name = name
        self._values = values
        self._known: dict[str, None] = {}

    def wrong(self, key: str, what: str) -> WrongTable:
        """The error for a key of this table."""
        place = f"[{self.name}] " if self.name else ""
        return WrongTable(f"{place}{key} {what}")

    def take(self, key: str) -> Any:
        """The value of a key as it stands, or None."""
        self._known[key] = None
        return self._values.get(key)

    def text(self, key: str, default: str = "") -> str:
        """A string that is not empty, or the default where there is none."""
        value = self.take(key)
        if value is None:
            return default
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(key, "must be a string that is not empty")
        return value

    def choice(self, key: str, *choices: str) -> str:
        """One of a few words; the first is the default."""
        value = self.text(key, choices[0])
        if value not in choices:
            raise self.wrong(key, f"must be {' or '.join(choices)}, not {value!r}")
        return value

    def number(self, key: str, least: float, most: float) -> float | None:
        """A number from `least` to `most`, or None where there is none."""
        value = self.take(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, "must be a number")
        if not least <= value <= most:
            raise self.wrong(key, f"must be between {least:g} and {most:g}, not {value:g}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings."""
        value = self.take(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self.wrong(key, "must be a list of strings")
        return tuple(value)

    def table(self, key: str) -> Table | None:
        """A table inside this one."""
        value = self.take(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(key, "must be a table")
        return Table(f"{self.name}.{key}" if self.name else key, value)

    def tables(self) -> Iterator[tuple[str, Table]]:
        """All that is in this one, which must be tables, by name."""
        for key in self._values:
            table = self.table(key)
            assert table is not None  # noqa: S101 - the key is there, and TOML has no null
            yield key, table

    def done(self) -> None:
        """Raises WrongTable for a key that nobody asked for, naming the nearest."""
        for key, value in self._values.items():
            if key in self._known:
                continue
            if isinstance(value, dict):
                hint = '; a name with a dot must be quoted, as in [models."gpt-4.1-mini"]'
            else:
                near = difflib.get_close_matches(key, self._known, n=1, cutoff=0.0)
                hint = f"; did you mean {near[0]}?" if near else ""
            raise self.wrong(key, f"is not known here{hint}")
