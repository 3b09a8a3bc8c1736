"""Runs `holdline up` in the checkout, for `make run`."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from command.up.command import ENVIRONMENT, reported
from command.up.data_dir import data_dir
from command.up.run import run

from .foreground import alone_in_front
from .reload import SourceWatcher

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m dev",
        description=f"{__doc__} Ctrl-C stops everything.",
        epilog=ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--reload",
        action="store_true",
        help="restart the server and the worker when a source file changes",
    )
    options = parser.parse_args(arguments)
    changed = SourceWatcher(ROOT).changed if options.reload else None
    with alone_in_front():
        return reported(
            lambda: asyncio.run(run(os.environ, data_dir(os.environ), "make run", changed))
        )


if __name__ == "__main__":
    sys.exit(main())
