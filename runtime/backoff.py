"""Computes the delay before a retry: exponential backoff with jitter."""

from __future__ import annotations

import random


def backoff(failures: int, least: float, most: float) -> float:
    """Returns the number of seconds to wait before a retry, after `failures` failures in a row.

    The delay grows from `least` to `most` and doubles with each failure. A random factor keeps
    processes that failed together from retrying together.
    """
    pause: float = min(most, least * 2 ** min(failures, 10))
    return pause * random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret
