"""The command line of the modules that stage the sources of a package in a folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class StagingError(Exception):
    """The package cannot be staged; the message gives the reason, and the line if there is one."""


def main(
    name: str, about: str | None, stage: Callable[[Path], None], arguments: Sequence[str] | None
) -> int:
    """Stages the package of the module `dev.<name>` and returns the exit status.

    The status is 1 if the package cannot be staged or the folder cannot be written.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m dev.{name}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="an empty folder, or one that does not exist")
    folder: Path = parser.parse_args(arguments).folder
    try:
        stage(folder)
    except (StagingError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    return 0
