"""Implements an event loop with virtual time.

If nothing is ready to run, the clock of the loop jumps to the next timer. So a simulation takes as
long as its computations, however long its waits are.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from selectors import SelectorKey


# The time of one turn of the loop. If the clock stood still between two timers, a wait that is
# shorter than the precision of a float would be repeated forever.
TURN_SECONDS: Final = 1e-9


class Deadlock(Exception):
    """No task of the simulation can go on: nothing is ready, and no timer is set."""


class _Jumping(selectors.SelectSelector):
    """A selector that moves the clock forward instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Returns the ready files. Raises: Deadlock if the wait would have no end."""
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise Deadlock
            self.now += max(timeout, TURN_SECONDS)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time starts at 0 and does not depend on the clock of the machine.

    Files and sockets must not be awaited, because the loop does not wait for them.
    """

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Returns the virtual time in seconds."""
        return self._jumping.now
