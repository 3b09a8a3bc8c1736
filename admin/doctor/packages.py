"""Compares the versions of Python and of the installed packages with requirements.txt."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .findings import broken, ok, unknown, warning

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .findings import Context, Finding

# The wheel contains the file of the checkout.
LOCK: Final = Path(__file__).parents[2] / "requirements.txt"
MIN_PYTHON: Final = (3, 11)
# A line with a marker is needed only on some systems.
_PINNED: Final = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)( *;)?", re.MULTILINE)


async def python(_: Context) -> AsyncIterator[Finding]:
    """Checks the version of Python."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < MIN_PYTHON:
        least = ".".join(map(str, MIN_PYTHON))
        yield broken(f"Python {found}", f"Holdline needs {least} or newer", "make setup", "G1")
    else:
        yield ok(f"Python {found}")


async def packages(_: Context) -> AsyncIterator[Finding]:
    """Checks that the installed packages have the versions with which Holdline is tested."""
    try:
        pinned = _PINNED.findall(LOCK.read_text(encoding="utf-8"))
    except OSError:
        yield unknown("there is no requirements.txt in this copy of Holdline", "pip check")
        return
    differ = []
    for name, wanted, marker in pinned:
        try:
            found = version(name)
        except PackageNotFoundError:
            if not marker:
                differ.append(f"{name} is missing")
            continue
        if found != wanted:
            differ.append(f"{name} {found} instead of {wanted}")
    if differ:
        shown = ", ".join(differ[:5]) + (f" and {len(differ) - 5} more" if len(differ) > 5 else "")
        why = "the promises are tested with the pinned versions only"
        yield warning(shown, why, f"{_installer()} --require-hashes -r {LOCK}")
    else:
        yield ok(f"{len(pinned)} packages have the pinned versions")


def _installer() -> str:
    """Returns the command that installs into this environment; those of uv and pipx lack pip."""
    try:
        version("pip")
    except PackageNotFoundError:
        return f"uv pip install --python {sys.executable}"
    return f"{sys.executable} -m pip install"
