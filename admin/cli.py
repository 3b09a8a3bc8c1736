"""What the commands of operators have in common: `python -m admin.keys` and others like it."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from jobs.errors import HoldlineError

# What the command prints, line by line. Raises: HoldlineError, ValueError, OSError.
Run = Callable[[Mapping[str, str], Sequence[str]], AsyncIterator[str]]


def parser(name: str, about: str | None) -> argparse.ArgumentParser:
    """A parser that shows the module's docstring as it is."""
    return argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def main(name: str, run: Run, argv: Sequence[str] | None = None) -> int:
    """Runs the command; 0, or 1 with a line that says why not."""

    async def show() -> None:
        async for line in run(os.environ, sys.argv[1:] if argv is None else argv):
            print(line, flush=True)

    try:
        asyncio.run(show())
    except (HoldlineError, ValueError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    return 0
