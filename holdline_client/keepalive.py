"""Decides when to send a ping, and when to drop a dead socket.

A dead connection sends nothing and reports no error. Therefore the client sends pings at an
interval, and each pong has a deadline. Arriving frames extend the deadline up to a limit, because a
long answer may arrive before the pong. Times are in seconds, from a clock that also advances while
the machine sleeps.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

PING_SECONDS: Final = 25.0
# The deadlines for the pong to a regular ping, and for the pong to a ping that tests a connection
# which may be dead.
PONG_DEADLINE: Final = 10.0
PROBE_DEADLINE: Final = 3.0
# Arriving frames extend the deadline of a pong to at most this many times its original length.
MAX_DEADLINE_FACTOR: Final = 3
# If a timer fires later than planned by more than this many seconds, the process was suspended. The
# socket may be dead, so it is tested with a ping.
OVERSLEPT: Final = 5.0


class Action(Enum):
    """The actions that may be due."""

    PING = "ping"  # send a ping with the id `Keepalive.awaited`
    DEAD = "dead"  # drop the socket and connect again


class Keepalive:
    """The timers of one socket.

    Call `tick` at the time `due`, and `heard` for each received frame.
    """

    def __init__(self, now: float, interval: float) -> None:
        self._interval = interval
        self._pings = 0
        self._ping_at = now + interval
        self._dead_at: float | None = None
        self._deadline = 0.0
        self._last_deadline = 0.0
        self.awaited: str | None = None

    @property
    def due(self) -> float:
        """The earliest time at which `tick` may return an action."""
        return self._ping_at if self._dead_at is None else self._dead_at

    def tick(self, now: float) -> Action | None:
        """Returns the action that is due now, or None."""
        if self._dead_at is not None:
            late = now - self._dead_at
            if late < 0:
                return None
            # If the process was suspended during the wait, the pong may have arrived but not been
            # read yet.
            return Action.DEAD if late <= OVERSLEPT else self._ping(now, PROBE_DEADLINE)
        if now < self._ping_at:
            return None
        overslept = now - self._ping_at > OVERSLEPT
        return self._ping(now, PROBE_DEADLINE if overslept else PONG_DEADLINE)

    def probe(self, now: float) -> Action:
        """Requests a ping at once, because the network has changed or the process was stopped."""
        return self._ping(now, PROBE_DEADLINE)

    def heard(self, now: float, pong: object = None) -> None:
        """Handles a received frame. If the frame is a pong, `pong` is its id."""
        if self.awaited is None:
            return
        if pong == self.awaited:
            self.awaited = self._dead_at = None
            self._ping_at = now + self._interval
        else:
            self._dead_at = min(now + self._deadline, max(self._last_deadline, now))

    def _ping(self, now: float, deadline: float) -> Action:
        self._pings += 1
        self.awaited = str(self._pings)
        self._deadline = deadline
        self._dead_at = now + deadline
        self._last_deadline = now + MAX_DEADLINE_FACTOR * deadline
        return Action.PING
