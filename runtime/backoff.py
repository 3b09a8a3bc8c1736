"""How long to wait before trying again."""

from __future__ import annotations

import random


def backoff(failures: int, least: float, most: float) -> float:
    """Seconds to wait after so many failures in a row: doubled each time up to `most`.

    Jittered, so that those who failed together do not come back together.
    """
    pause: float = min(most, least * 2 ** min(failures, 10))
    return pause * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
