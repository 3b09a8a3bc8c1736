"""The keepalive of one socket: decides when to ping, to drop the socket, or to move elsewhere.

A dead connection is silent. So there is a ping after each interval without one, and a deadline for
its pong. Arriving frames extend the deadline up to a limit, because a long answer may precede the
pong. Times are seconds of a clock that advances while the machine sleeps.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from .backoff import LONGEST_STATED

PING_SECONDS: Final = 25.0
# The deadline for the pong to a regular ping, and to one sent because the connection may be dead.
PONG_DEADLINE: Final = 10.0
PROBE_DEADLINE: Final = 3.0
# Arriving frames extend the deadline of a pong up to this many times its length.
MAX_DEADLINE_FACTOR: Final = 3
# A timer that fires this many seconds late means that the process slept, so the socket is probed.
OVERSLEPT: Final = 5.0


class Action(Enum):
    """An action that is due."""

    PING = "ping"  # send a ping with `Keepalive.awaited`
    DEAD = "dead"  # drop the socket and connect again
    MOVE = "move"  # the server is draining: connect again, without counting a failure


class Keepalive:
    """The timers of one socket. Call `tick` at `due`, and `heard` for each frame."""

    def __init__(self, now: float, interval: float) -> None:
        self._interval = interval
        self._pings = 0
        self._ping_at = now + interval
        self._dead_at: float | None = None
        self._deadline = 0.0
        self._last_deadline = 0.0
        self._move_at: float | None = None
        self.awaited: str | None = None

    @property
    def due(self) -> float:
        """The earliest time at which `tick` returns an action."""
        nearest = self._ping_at if self._dead_at is None else self._dead_at
        return nearest if self._move_at is None else min(nearest, self._move_at)

    def tick(self, now: float) -> Action | None:
        """Returns the action that is due now."""
        if self._move_at is not None and now >= self._move_at:
            return Action.MOVE
        if self._dead_at is not None:
            late = now - self._dead_at
            if late < 0:
                return None
            # If the process slept during the wait, the pong may have arrived but not been read yet.
            return Action.DEAD if late <= OVERSLEPT else self._ping(now, PROBE_DEADLINE)
        if now < self._ping_at:
            return None
        overslept = now - self._ping_at > OVERSLEPT
        return self._ping(now, PROBE_DEADLINE if overslept else PONG_DEADLINE)

    def probe(self, now: float) -> Action:
        """Pings at once, because the network has changed or the process was stopped."""
        return self._ping(now, PROBE_DEADLINE)

    def heard(self, now: float, pong: object = None) -> None:
        """Handles a received frame; `pong` is its id if it is a pong."""
        if self.awaited is None:
            return
        if pong == self.awaited:
            self.awaited = self._dead_at = None
            self._ping_at = now + self._interval
        else:
            self._dead_at = min(now + self._deadline, max(self._last_deadline, now))

    def draining(self, now: float, retry_after: float) -> float:
        """Handles a draining server. Returns the seconds to wait before the next connection."""
        wait = min(max(retry_after, 0.0), LONGEST_STATED)
        self._move_at = now + wait
        return wait

    def _ping(self, now: float, deadline: float) -> Action:
        self._pings += 1
        self.awaited = str(self._pings)
        self._deadline = deadline
        self._dead_at = now + deadline
        self._last_deadline = now + MAX_DEADLINE_FACTOR * deadline
        return Action.PING
