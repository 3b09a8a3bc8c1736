"""Declares a setting once, for its parser, the `--help` text and the documentation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

# The programs that read a setting. A setting for "all" needs the same value in all processes that
# use the same Redis.
Readers = Literal[
    "all",
    "server",
    "worker",
    "server, worker",
    "server, operator",
    "operator",
    "`holdline ask`",
    "`holdline up`",
]
ALL: Final = "all"
SERVER: Final = "server"
WORKER: Final = "worker"
EACH: Final = "server, worker"
ADMIN: Final = "operator"
SERVER_AND_ADMIN: Final = "server, operator"
CLIENT: Final = "`holdline ask`"
UP: Final = "`holdline up`"


@dataclass(frozen=True, slots=True)
class Setting:
    """The declaration of one setting.

    `least` and `most` are the bounds of a number. If `choices` is not empty, only its words are
    valid values. `help` is Markdown. If the default is empty, the documentation shows `shown`
    instead.
    """

    name: str
    readers: Readers
    default: str | float
    help: str
    least: float = 0
    most: float = 0
    choices: tuple[str, ...] = ()
    shown: str = ""

    @property
    def bounds(self) -> str:
        """The bounds of a number in the form "0, 10", or "" for a text."""
        return "" if isinstance(self.default, str) else f"{self.least}, {self.most}"

    @property
    def shown_default(self) -> str:
        """The default value, in Markdown for the documentation."""
        if isinstance(self.default, str):
            return f"`{self.default}`" if self.default else self.shown
        return str(self.default)

    @property
    def plain_help(self) -> str:
        """The help text without Markdown links and backticks."""
        return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", self.help).replace("`", "")


def text(name: str, readers: Readers, default: str, help_: str, *, shown: str = "") -> Setting:
    """Declares a setting whose value is a text."""
    return Setting(name, readers, default, help_, shown=shown)


def number(
    name: str, readers: Readers, default: float, least: float, most: float, help_: str
) -> Setting:
    """Declares a setting whose value is a number within bounds."""
    return Setting(name, readers, default, help_, least, most)


def limit(name: str, readers: Readers, most: float, help_: str) -> Setting:
    """Declares a limit, which is a number with the default 0. 0 means no limit."""
    return number(name, readers, 0, 0, most, f"{help_}; 0 means no limit")


def choice(name: str, readers: Readers, choices: tuple[str, ...], help_: str) -> Setting:
    """Declares a setting with a fixed set of values; the first one is the default."""
    return Setting(name, readers, choices[0], help_, choices=choices)
