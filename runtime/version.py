"""The version of the running program."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final

DISTRIBUTION: Final = "holdline-server"
CHECKOUT: Final = "checkout"


def program_version() -> str:
    """Returns the version of the installed wheel, or "checkout" if none is installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return CHECKOUT
