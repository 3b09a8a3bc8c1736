"""The environment variables of a command, with their source for the user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

THIS_COMMAND: Final = "the environment variables of this command"


class Environ(dict[str, str]):
    """Environment variables. `source` says in words where they come from.

    `other` is the way to the settings of a running service that this command does not use, or "".
    """

    def __init__(
        self, values: Mapping[str, str], source: str = THIS_COMMAND, other: str = ""
    ) -> None:
        super().__init__(values)
        self.source = source
        self.other = other


def with_source(environ: Mapping[str, str]) -> Environ:
    """Returns the variables with their source, which is this command if no other one is known."""
    return environ if isinstance(environ, Environ) else Environ(environ)
