"""Exponential backoff with jitter."""

from __future__ import annotations

import random


def backoff(failures: int, least: float, most: float) -> float:
    """Returns the seconds to wait after consecutive failures: doubled each time, at most `most`.

    The jitter keeps processes that failed together from retrying together.
    """
    pause: float = min(most, least * 2 ** min(failures, 10))
    return pause * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
