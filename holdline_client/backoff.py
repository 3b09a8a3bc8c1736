"""Computes the random delay before the next connection attempt. The first retry is immediate."""

from __future__ import annotations

from typing import Final

SHORTEST: Final = 0.5
LONGEST: Final = 20.0

# The upper limit of the random delay grows slowly, so that clients return soon to a server that
# restarts within seconds.
_FIRST_CEILING: Final = 1.0
_GROWTH: Final = 1.5

# A connection that lasts for less than this many seconds does not prove that the server is healthy.
STABLE: Final = 5.0

# The maximum delay in seconds that a server can ask for. The client shortens a longer delay.
LONGEST_STATED: Final = 300.0


def delay(tries: int, jitter: float, retry_after: float = 0.0) -> float:
    """Returns the number of seconds to wait before the next attempt.

    `tries` is the number of attempts since the last stable connection. `jitter` is a random number
    in [0, 1). `retry_after` is the delay in seconds that the server asked for. The result is at
    least that delay, up to `LONGEST_STATED`, plus a small random time.
    """
    ceiling = min(LONGEST, _FIRST_CEILING * _GROWTH ** min(tries - 1, 20))
    drawn = 0.0 if tries == 0 else SHORTEST + jitter * (ceiling - SHORTEST)
    stated = min(max(retry_after, 0.0), LONGEST_STATED)
    return drawn if stated == 0 else max(drawn, stated + jitter * SHORTEST)


def tries_after_loss(tries: int, lived: float) -> int:
    """Returns the number of attempts to count after a connection was lost.

    The number is 0 if the connection lasted for at least `STABLE` seconds.
    """
    return 0 if lived >= STABLE else tries
