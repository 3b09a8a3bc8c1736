"""How long to wait before the next try: full jitter, after a first retry that is immediate."""

from __future__ import annotations

from typing import Final

SHORTEST: Final = 0.5
LONGEST: Final = 20.0

# The range grows slowly: a server that restarts is back within seconds, and so are its clients.
_FIRST_CEILING: Final = 1.0
_GROWTH: Final = 1.5

# A connection that lived shorter than this did not prove that the server is well.
STABLE: Final = 5.0

# However long a server asks for, nobody waits longer than this.
LONGEST_STATED: Final = 300.0


def delay(tries: int, jitter: float, retry_after: float = 0.0) -> float:
    """Seconds before a try.

    `tries` counts those since the last stable connection: 0 is the first. `jitter` is in [0, 1).
    `retry_after` is what the server asked for in seconds: never undercut, and spread a little.
    """
    ceiling = min(LONGEST, _FIRST_CEILING * _GROWTH ** min(tries - 1, 20))
    drawn = 0.0 if tries == 0 else SHORTEST + jitter * (ceiling - SHORTEST)
    stated = min(max(retry_after, 0.0), LONGEST_STATED)
    return drawn if stated == 0 else max(drawn, stated + jitter * SHORTEST)


def tries_after_loss(tries: int, lived: float) -> int:
    """The tries that a lost connection leaves behind: none if it lived for `STABLE` seconds."""
    return 0 if lived >= STABLE else tries
