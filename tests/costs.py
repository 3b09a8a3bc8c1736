"""Counts what an answer costs: function calls, tasks, timers and writes to sockets.

Counts are the same on every machine, unlike times, so tests can bound them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partialmethod
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

from aiohttp import web
from aiohttp.http_writer import StreamWriter

from jobs.redis.wire import Wire
from tests.system import CODE

ROOT = Path(__file__).parent.parent
PACKAGES = ("jobs", "runtime", "server", "worker")
ANSWERS = 5


def _places(packages: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{CODE / name}{os.sep}" for name in packages)


@contextlib.contextmanager
def calls_of(*packages: str) -> Iterator[Counter[str]]:
    """Counts the calls of the functions in these packages of the project by name."""
    calls: Counter[str] = Counter()
    ours = _places(packages)

    def called(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(ours):
            calls[code.co_name] += 1

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        yield calls
    finally:
        sys.setprofile(before)


@dataclass
class Costs:
    """The tasks and timers that the project has started, and its writes, by the name of the place.

    `responses` are writes to HTTP clients, `requests` writes to endpoints, and `commands` writes to
    Redis, each of which may contain several commands.
    """

    tasks: Counter[str] = field(default_factory=Counter)
    timers: Counter[str] = field(default_factory=Counter)
    responses: int = 0
    requests: int = 0
    commands: int = 0


def _place() -> str:
    """Returns the function of the project that is running, or "" if a test is running."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(_places(PACKAGES)):
            return frame.f_code.co_qualname
        if path.startswith(str(ROOT / "tests")):
            return ""
        frame = frame.f_back
    return ""


@contextlib.contextmanager
def costs() -> Iterator[Costs]:
    """Counts what the project does in the running event loop. The costs of tests do not count."""
    loop, found = asyncio.get_running_loop(), Costs()

    def counting(counter: Counter[str], original: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            if place := _place():
                counter[place] += 1
            return original(*arguments, **options)

        return counted

    def written(writer: StreamWriter, original: Callable[..., None], data: Any) -> None:
        if isinstance(writer.protocol, web.RequestHandler):
            found.responses += 1
        else:
            found.requests += 1
        original(writer, data)

    def flushed(wire: Wire, original: Callable[[Wire], None]) -> None:
        found.commands += 1
        original(wire)

    def method(function: Callable[..., Any], original: Any) -> Any:
        return partialmethod(function, original)

    with (
        patch.object(loop, "create_task", counting(found.tasks, loop.create_task)),
        patch.object(loop, "call_at", counting(found.timers, loop.call_at)),
        patch.object(StreamWriter, "_write", method(written, StreamWriter._write)),
        patch.object(StreamWriter, "_writelines", method(written, StreamWriter._writelines)),
        patch.object(Wire, "_flush", method(flushed, Wire._flush)),
    ):
        yield found


def without_loops(found: Counter[str]) -> Counter[str]:
    """Returns the counts without those of background loops, which run beside each answer."""
    loops = ("Loop.", "Compactor.", "NodeSubscriber.", "Redis.")
    return Counter({place: count for place, count in found.items() if not place.startswith(loops)})


async def fewest(measured: Callable[[], Awaitable[tuple[int, ...]]]) -> tuple[int, ...]:
    """Returns the fewest counts of several answers, because background loops may run during one.

    The first answer does not count: it opens connections.
    """
    await measured()
    return tuple(map(min, *[await measured() for _ in range(ANSWERS)]))
