"""The main function and the argument parser that all `admin` commands share."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final

from jobs.config.shared_config import hide, redis_url
from jobs.errors import HoldlineError, RedisAway, RedisNotReady
from runtime.logs import printable_lines

from .audited import NotAudited

# A command takes the environment and the arguments, and yields the lines to print. It may raise
# HoldlineError, ValueError or OSError.
Command = Callable[[Mapping[str, str], Sequence[str]], AsyncIterator[str]]

DAY: Final = 86_400.0
UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": DAY}


def parser(name: str, about: str | None) -> argparse.ArgumentParser:
    """Returns an argument parser whose help is the docstring `about`, with its line breaks."""
    return argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def main(name: str, run: Command, argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit status: 0, or 1 after printing an error."""

    async def show() -> None:
        async for line in run(os.environ, sys.argv[1:] if argv is None else argv):
            print(line, flush=True)

    try:
        asyncio.run(show())
    except (HoldlineError, ValueError, OSError) as error:
        print(printable_lines(f"{name}: {error}{_advice(error)}"), file=sys.stderr)
        return 1
    return 0


def key_list(lines: Sequence[str]) -> str:
    """Returns the lines, one for each key, followed by the number of keys."""
    return "\n".join([*lines, "1 key" if len(lines) == 1 else f"{len(lines)} keys"])


def seconds(written: str) -> float:
    """Converts a duration on the command line, such as `90d`, to seconds.

    Raises: argparse.ArgumentTypeError.
    """
    try:
        found = float(written[:-1]) * UNITS[written[-1:]]
    except (ValueError, KeyError):
        raise argparse.ArgumentTypeError(
            "a duration must be a number followed by s, m, h or d, such as 90d"
        ) from None
    if not 0 <= found <= 3650 * DAY:
        raise argparse.ArgumentTypeError("a duration must be between 0s and 3650d")
    return found


def as_json(value: object) -> str:
    """Returns a value as one line of JSON that a terminal can show.

    JSON allows the control characters from U+007F on, which a terminal would execute.
    """
    text = json.dumps(value, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)


def _advice(error: Exception) -> str:
    cause = error.__cause__ if isinstance(error, NotAudited) else error
    if not isinstance(cause, RedisAway) or isinstance(cause, RedisNotReady):
        return ""
    place = ", or HOLDLINE_AUDIT=stderr to record changes on standard error only"
    return (
        f" at {hide(redis_url(os.environ))}; set REDIS_URL to the Redis of your servers"
        f"{place if isinstance(error, NotAudited) else ''}. The "
        "embedded Redis of `make run` has no port: set REDIS_URL to the unix:// URL that "
        "`make run` prints."
    )
