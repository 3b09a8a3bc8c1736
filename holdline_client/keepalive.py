"""Whether one socket is alive: when to ping, how long to wait for the pong, when to move elsewhere.

A dead line says nothing. So there is a ping after each quiet interval, and a deadline for its pong;
while frames come, the deadline moves, because a long answer may stand before the pong, but not
for ever. Times are seconds of a clock that goes on while the machine sleeps.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from .backoff import LONGEST_STATED

PING_SECONDS: Final = 25.0
# For a pong to a ping in quiet times, and to one sent because there is a reason to doubt.
PONG_DEADLINE: Final = 10.0
PROBE_DEADLINE: Final = 3.0
# While frames come, the deadline of a pong moves up to this many times its length.
PATIENCE: Final = 3
# A timer that rings this much late was asleep with the process: the socket is to be doubted.
OVERSLEPT: Final = 5.0


class Action(Enum):
    """What is due."""

    PING = "ping"  # send a ping with `Keepalive.awaited`
    DEAD = "dead"  # drop the socket and connect again
    MOVE = "move"  # the server goes: the same, and it is not the line's fault


class Keepalive:
    """The timers of one socket. Call `tick` at `due`, and `heard` for each frame."""

    def __init__(self, now: float, interval: float) -> None:
        self._interval = interval
        self._pings = 0
        self._ping_at = now + interval
        self._dead_at: float | None = None
        self._deadline = 0.0
        self._patience_ends = 0.0
        self._move_at: float | None = None
        self.awaited: str | None = None

    @property
    def due(self) -> float:
        """When `tick` has something to say at the earliest."""
        nearest = self._ping_at if self._dead_at is None else self._dead_at
        return nearest if self._move_at is None else min(nearest, self._move_at)

    def tick(self, now: float) -> Action | None:
        """What is due now."""
        if self._move_at is not None and now >= self._move_at:
            return Action.MOVE
        if self._dead_at is not None:
            late = now - self._dead_at
            if late < 0:
                return None
            # Asleep while it waited: the pong may lie unread in this very process.
            return Action.DEAD if late <= OVERSLEPT else self._ping(now, PROBE_DEADLINE)
        if now < self._ping_at:
            return None
        overslept = now - self._ping_at > OVERSLEPT
        return self._ping(now, PROBE_DEADLINE if overslept else PONG_DEADLINE)

    def doubt(self, now: float) -> Action:
        """There is a reason to doubt: the network changed, the process was stopped."""
        return self._ping(now, PROBE_DEADLINE)

    def heard(self, now: float, pong: object = None) -> None:
        """A frame has come; `pong` is the id in it if it is one."""
        if self.awaited is None:
            return
        if pong == self.awaited:
            self.awaited = self._dead_at = None
            self._ping_at = now + self._interval
        else:
            self._dead_at = min(now + self._deadline, max(self._patience_ends, now))

    def draining(self, now: float, retry_after: float) -> float:
        """The server is about to go; how many seconds it wants to be left alone."""
        wait = min(max(retry_after, 0.0), LONGEST_STATED)
        self._move_at = now + wait
        return wait

    def _ping(self, now: float, deadline: float) -> Action:
        self._pings += 1
        self.awaited = str(self._pings)
        self._deadline = deadline
        self._dead_at = now + deadline
        self._patience_ends = now + PATIENCE * deadline
        return Action.PING
