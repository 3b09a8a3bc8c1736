"""Starts a server or worker that counts its tasks and garbage on SIGUSR1.

    SOAK_FOLDER=folder python -m tests.chaos.probe server|worker

The first signal also disables automatic garbage collection. At the second signal, the process also
reports the types of the Holdline objects that have become garbage since the first one and that only
the collector can free.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

from command.root import holdline
from runtime import command_line
from tests.system import CODE, PREFIX

PARTS = ("server", "worker", "jobs", "runtime")


def _name(thing: object) -> str:
    """Returns the name of a Holdline type or of a frame's Holdline function, else ""."""
    if isinstance(thing, FrameType):
        path = Path(thing.f_code.co_filename)
        of_ours = path.is_relative_to(CODE) and path.relative_to(CODE).parts[0] in PARTS
        return f"frame of {thing.f_code.co_qualname}" if of_ours else ""
    kind = type(thing)
    of_ours = kind.__module__.removeprefix(PREFIX).partition(".")[0] in PARTS
    return f"{kind.__module__}.{kind.__qualname__}" if of_ours else ""


def report(*_: object) -> None:
    """Writes the counts to a file. This function is a signal handler."""
    gc.collect()
    found = Counter(name for thing in gc.garbage if (name := _name(thing)))
    gc.garbage.clear()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    counts = {"tasks": len(asyncio.all_tasks()), "garbage": found}
    path = Path(os.environ["SOAK_FOLDER"]) / f"probe-{os.getpid()}.json"
    path.with_suffix(".new").write_text(json.dumps(counts))
    path.with_suffix(".new").rename(path)


def main() -> int:
    """Runs the server or worker process."""
    kind = sys.argv.pop()
    signal.signal(signal.SIGUSR1, report)
    return command_line.run(holdline, "holdline", [kind])


if __name__ == "__main__":
    sys.exit(main())
