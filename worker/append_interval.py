"""Determines the interval between two appends of text to a log, from the load of the worker.

A calm worker appends each piece of text at once. A busy worker appends the text of each response
every `BUSY_SECONDS`. Its appends then cost less in the worker, in Redis and in the servers, and
clients receive the text in larger pieces.

A worker becomes busy at the end of a period of `PERIOD_SECONDS` in which

- its models wrote more than `BUSY_PIECES` pieces of text per second, or
- on average more than `BUSY_WAITING` appends waited for Redis at the same time, because Redis, the
  network or the event loop of the worker is overloaded.

A worker becomes calm when both values have been below `CALM_PIECES` and `CALM_WAITING` for some
time, or below `LOW_PIECES` and `LOW_WAITING` for one period. A load that low cannot make the worker
busy again, so its text is not delayed for the rest of a long busy time. For loads in between, two
rules prevent an oscillation:

- The limits for becoming busy and for becoming calm differ.
- The number of pieces does not depend on the interval, but the number of waiting appends does. So
  the end of the busy time depends on the number that would wait if each piece had its own append.
  This number is an estimate. If the worker becomes busy again within `RELAPSE_SECONDS`, the
  estimate was wrong, and the next busy time lasts twice as long, up to `MAX_CALM_SECONDS`.
"""

from __future__ import annotations

import math
from typing import Final

BUSY_SECONDS: Final = 0.055
# Appends of a busy worker are due at multiples of this time. So the appends of several responses
# share one write to Redis.
GRID_SECONDS: Final = 0.005
PERIOD_SECONDS: Final = 0.5
BUSY_PIECES: Final = 7_500
CALM_PIECES: Final = 6_000
BUSY_WAITING: Final = 24
CALM_WAITING: Final = 12
LOW_PIECES: Final = CALM_PIECES / 8
LOW_WAITING: Final = CALM_WAITING / 8
RELAPSE_SECONDS: Final = 10.0
MAX_CALM_SECONDS: Final = 60.0
# The time of the last append of text to a log without such an append.
NEVER: Final = -math.inf


class AppendInterval:
    """The interval between two appends of text to a log, for all responses of one worker.

    All times are in seconds of one monotonic clock. `busy` is True while there is an interval.
    """

    def __init__(self, now: float) -> None:
        self.busy = False
        # The values of the current period.
        self._began = now
        self._pieces = self._appends = 0
        self._waited = 0.0
        # How long the values must be low before the worker becomes calm.
        self._calm_seconds = PERIOD_SECONDS
        self._last_high = now  # the end of the last period with a high value
        self._became_calm = NEVER

    def due(self, appended: float) -> float:
        """Returns the earliest time for the next append of text to a log.

        `appended` is the time of the previous append of text to this log, or NEVER.
        """
        if not self.busy or appended == NEVER:
            return appended
        return round((appended + BUSY_SECONDS) / GRID_SECONDS) * GRID_SECONDS

    def count(self, pieces: int, waited: float, now: float) -> None:
        """Counts an append of some pieces of text, whose reply arrived after `waited` seconds."""
        self._pieces += pieces
        self._appends += 1
        self._waited += waited
        if now - self._began >= PERIOD_SECONDS:
            self._decide(now)
            self._began, self._pieces, self._appends, self._waited = now, 0, 0, 0.0

    def _decide(self, now: float) -> None:
        took = now - self._began
        pieces, waiting = self._pieces / took, self._waited / took
        if not self.busy:
            if pieces > BUSY_PIECES or waiting > BUSY_WAITING:
                self.busy, self._last_high = True, now
                relapsed = now - self._became_calm < RELAPSE_SECONDS
                longer = min(2 * self._calm_seconds, MAX_CALM_SECONDS)
                self._calm_seconds = longer if relapsed else PERIOD_SECONDS
            return
        would_wait = pieces * self._waited / self._appends
        low = pieces < LOW_PIECES and would_wait < LOW_WAITING
        if pieces > CALM_PIECES or would_wait > CALM_WAITING:
            self._last_high = now
        elif low or now - self._last_high >= self._calm_seconds:
            self.busy, self._became_calm = False, now
