"""The delay before the next try: full jitter, after an immediate first retry."""

from __future__ import annotations

from typing import Final

SHORTEST: Final = 0.5
LONGEST: Final = 20.0

# The range grows slowly, so that clients return soon to a server that restarts within seconds.
_FIRST_CEILING: Final = 1.0
_GROWTH: Final = 1.5

# A connection that lasted less than this many seconds does not prove that the server is healthy.
STABLE: Final = 5.0

# The longest delay in seconds, even if the server asks for more.
LONGEST_STATED: Final = 300.0


def delay(tries: int, jitter: float, retry_after: float = 0.0) -> float:
    """Returns the seconds to wait before a try.

    `tries` counts the tries since the last stable connection, from 0. `jitter` is in [0, 1).
    `retry_after` is the delay in seconds that the server asked for; the result is never shorter, up
    to `LONGEST_STATED`, and slightly spread.
    """
    ceiling = min(LONGEST, _FIRST_CEILING * _GROWTH ** min(tries - 1, 20))
    drawn = 0.0 if tries == 0 else SHORTEST + jitter * (ceiling - SHORTEST)
    stated = min(max(retry_after, 0.0), LONGEST_STATED)
    return drawn if stated == 0 else max(drawn, stated + jitter * SHORTEST)


def tries_after_loss(tries: int, lived: float) -> int:
    """Returns the count of tries after a lost connection: 0 if it lasted for `STABLE` seconds."""
    return 0 if lived >= STABLE else tries
