"""The version of the running program."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

DISTRIBUTION: Final = "holdline-server"
# An installed wheel has no such file beside its packages.
PROJECT: Final = Path(__file__).parent.parent / "pyproject.toml"
UNKNOWN: Final = "unknown"


@cache
def program_version() -> str:
    """Returns the version of the checkout, or else that of the installed wheel.

    The checkout comes first, because a wheel of another version may be installed beside it. A copy
    of single folders has neither, and its version is `unknown`.
    """
    try:
        project: dict[str, str] = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
        return project["version"]
    except FileNotFoundError:
        pass
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return UNKNOWN
