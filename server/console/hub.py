"""Pushes the state of the service to all consoles that are open on this server.

One loop reads for all of them, at a bounded rate, and only while a console is open. A console that
reads slowly misses states, and gets the newest one as soon as it has caught up.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
from msgspec.structs import replace

from jobs.errors import HoldlineError, RedisTrouble
from runtime.loop import Loop
from server.api.problem import Problem
from server.api.shared_message import SharedMessage

from .state import EMPTY

if TYPE_CHECKING:
    from server.api.schema.console import State

    from .reader import StateReader

PAUSE_SECONDS: Final = (0.5, 0.6)
# A console that is opened, or shows another response, gets a state early. This is the least time
# between two states. Otherwise each message of one console would send a state to all of them.
MIN_PAUSE_SECONDS: Final = 0.1
MAX_CONSOLES: Final = 64


class Console(Protocol):
    """A console that is open on this server."""

    response_id: str | None

    def show(self, pushed: SharedMessage) -> None:
        """Writes the message, unless the console is slow."""


class Hub:
    """The open consoles of this server, and the loop that reads for them."""

    def __init__(self, reader: StateReader) -> None:
        self._reader = reader
        self._consoles: set[Console] = set()
        self._occupied = asyncio.Event()
        self._loop = Loop("console", self._tick, PAUSE_SECONDS)
        self._state: State = EMPTY
        self._pushed_at = float("-inf")

    def loop(self) -> Loop:
        """Returns the loop that reads and pushes, which idles while no console is open."""
        return self._loop

    def __len__(self) -> int:
        return len(self._consoles)

    def join(self, console: Console) -> None:
        """Opens a console, or shows it another response. Raises: Problem if there are too many."""
        if console not in self._consoles and len(self._consoles) >= MAX_CONSOLES:
            raise Problem(
                429,
                "too_many",
                f"This server already has {MAX_CONSOLES} open consoles, which is the limit. Close "
                "one, or connect to another server.",
                retry_after=5,
            )
        self._consoles.add(console)
        self._occupied.set()
        self._loop.wake()

    def leave(self, console: Console) -> None:
        """Closes a console. Does nothing if it is not open."""
        self._consoles.discard(console)
        if not self._consoles:
            self._occupied.clear()

    async def _tick(self) -> None:
        await self._occupied.wait()
        await asyncio.sleep(self._pushed_at + MIN_PAUSE_SECONDS - time.monotonic())
        self._pushed_at = time.monotonic()
        try:
            self._state = await self._reader.read()
        except RedisTrouble:
            self._state = replace(self._state, redis_available=False)
        pushed = SharedMessage({"type": "holdline:state", **msgspec.to_builtins(self._state)})
        for console in list(self._consoles):
            console.show(pushed)
        if self._state.redis_available:
            wanted = {c.response_id for c in self._consoles if c.response_id is not None}
            for response_id in wanted:
                await self._show_timeline(response_id)

    async def _show_timeline(self, response_id: str) -> None:
        try:
            found = await self._reader.timeline(response_id)
        except HoldlineError:
            return  # the next state says whether Redis is unavailable
        pushed = SharedMessage({"type": "holdline:timeline", **msgspec.to_builtins(found)})
        for console in list(self._consoles):
            if console.response_id == response_id:
                console.show(pushed)
