"""The main function and the argument parser that all `admin` commands share."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from jobs.config.shared_config import hide, redis_url
from jobs.errors import HoldlineError, RedisAway, RedisNotReady

# A command takes the environment and the arguments, and yields the lines to print. It may raise
# HoldlineError, ValueError or OSError.
Command = Callable[[Mapping[str, str], Sequence[str]], AsyncIterator[str]]


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
        print(f"{name}: {error}{_advice(error)}", file=sys.stderr)
        return 1
    return 0


def key_list(lines: Sequence[str]) -> str:
    """Returns the lines, one for each key, followed by the number of keys."""
    return "\n".join([*lines, "1 key" if len(lines) == 1 else f"{len(lines)} keys"])


def _advice(error: Exception) -> str:
    if not isinstance(error, RedisAway) or isinstance(error, RedisNotReady):
        return ""
    return (
        f" at {hide(redis_url(os.environ))}; set REDIS_URL to the Redis of your servers. The "
        "embedded Redis of `make run` has no port: set REDIS_URL to the unix:// URL that "
        "`make run` prints."
    )
