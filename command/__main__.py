"""Runs the command `holdline`. In a checkout, run it with `python -m command`."""

from __future__ import annotations

import sys
from typing import Final

from runtime import command_line

from .root import holdline

NAME: Final = f"python -m {__package__}"


def main() -> int:
    """Runs the installed command `holdline` and returns its exit status."""
    return command_line.run(holdline, "holdline")


if __name__ == "__main__":
    sys.exit(command_line.run(holdline, NAME))
