"""Counts the attempts that ended lately, by model. This module performs no I/O.

Metrics count failures since the start of a process. An operator has to see the failures of the last
minutes, also without Prometheus and without access to the port of every worker.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

from jobs.recent_attempts import RECENT_SECONDS, RecentAttempts
from jobs.worker_registry import MAX_TEXT

SLICE_SECONDS: Final = 30
# Without a models file, clients may ask for any model name. Further names are not counted.
MAX_NAMES: Final = 50


@dataclass(slots=True)
class _Slice:
    """The attempts that ended in a slice of time, by model."""

    number: int
    ended: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    causes: dict[str, str] = field(default_factory=dict)


class RecentCounter:
    """Counts ended and failed attempts over the last `RECENT_SECONDS`."""

    def __init__(self) -> None:
        self._slices: deque[_Slice] = deque()

    def add(self, now: float, model: str, cause: str, *, failed: bool) -> None:
        """Counts an attempt that ended at the time `now`, in seconds of a monotonic clock."""
        self._forget(now)
        number = int(now // SLICE_SECONDS)
        if not self._slices or self._slices[-1].number != number:
            self._slices.append(_Slice(number))
        last, model = self._slices[-1], model[:MAX_TEXT]
        if model not in last.ended and len(last.ended) >= MAX_NAMES:
            return
        last.ended[model] += 1
        if failed:
            last.failed[model] += 1
            last.causes[model] = cause

    def counts(self, now: float) -> tuple[RecentAttempts, ...]:
        """Returns the counts of the models with the most failed attempts, `MAX_NAMES` at most."""
        self._forget(now)
        ended: Counter[str] = Counter()
        failed: Counter[str] = Counter()
        causes: dict[str, str] = {}
        for part in self._slices:
            ended.update(part.ended)
            failed.update(part.failed)
            causes |= part.causes
        names = sorted(ended, key=lambda name: (-failed[name], -ended[name], name))[:MAX_NAMES]
        return tuple(
            RecentAttempts(name, ended[name], failed[name], causes.get(name, "")) for name in names
        )

    def _forget(self, now: float) -> None:
        oldest = (now - RECENT_SECONDS) // SLICE_SECONDS
        while self._slices and self._slices[0].number <= oldest:
            self._slices.popleft()
