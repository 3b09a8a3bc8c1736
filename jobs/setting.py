"""The declaration of a setting, for the parser, the help and the documentation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

# The programs that read a setting. With "all", every process on one Redis needs the same value.
Readers = Literal["all", "server", "worker", "server, worker", "`holdline-ask`"]
ALL: Final = "all"
SERVER: Final = "server"
WORKER: Final = "worker"
EACH: Final = "server, worker"
CLIENT: Final = "`holdline-ask`"


@dataclass(frozen=True, slots=True)
class Setting:
    """The declaration of one setting.

    `least` and `most` bound a number; a setting with `choices` allows no other words. `help` is
    Markdown. The documentation shows `shown` in the place of an empty default.
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
        """The bounds of a number; "" for a text."""
        return "" if isinstance(self.default, str) else f"{self.least}, {self.most}"

    @property
    def shown_default(self) -> str:
        """The default in Markdown."""
        if isinstance(self.default, str):
            return f"`{self.default}`" if self.default else self.shown
        return str(self.default)

    @property
    def plain_help(self) -> str:
        """The help without Markdown links and code marks."""
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
    """Declares a limit: a number whose default of 0 means no limit."""
    return number(name, readers, 0, 0, most, f"{help_}; 0: no limit")


def choice(name: str, readers: Readers, choices: tuple[str, ...], help_: str) -> Setting:
    """Declares a setting with a fixed set of values; the first one is the default."""
    return Setting(name, readers, choices[0], help_, choices=choices)
