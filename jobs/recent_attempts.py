"""The attempts that ended in the last minutes, by model, as the records of workers report them.

This module performs no I/O.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

# The time over which a worker counts its attempts.
RECENT_SECONDS: Final = 300
# Fewer failed attempts, or a smaller share of all attempts, may be chance. The alert
# `HoldlineModelFailing` has the same share.
MIN_FAILED: Final = 5
FAILING_SHARE: Final = 0.2


@dataclass(frozen=True, slots=True)
class RecentAttempts:
    """The attempts of a model that ended in the last `RECENT_SECONDS`.

    `cause` is the cause of the latest failed attempt, or "" if none failed.
    """

    model: str
    ended: int
    failed: int
    cause: str

    @property
    def failing(self) -> bool:
        """True if so many attempts failed that an operator should know."""
        return self.failed >= MIN_FAILED and self.failed > FAILING_SHARE * self.ended


class RecentSum:
    """The sum of the recent attempts of several workers."""

    def __init__(self, recent: Iterable[RecentAttempts] = ()) -> None:
        self._ended: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._causes: dict[str, Counter[str]] = {}
        for one in recent:
            self.add(one)

    def add(self, one: RecentAttempts, sign: int = 1) -> None:
        """Adds the attempts of a worker, or subtracts them if `sign` is -1."""
        self._ended[one.model] += sign * one.ended
        self._failed[one.model] += sign * one.failed
        causes = self._causes.setdefault(one.model, Counter())
        causes[one.cause] += sign * one.failed
        if not self._ended[one.model]:
            del self._ended[one.model], self._failed[one.model], self._causes[one.model]

    def of(self, model: str) -> RecentAttempts:
        """Returns the attempts of a model, with the most frequent cause."""
        return self._sum(model, [model])

    def except_for(self, models: Collection[str]) -> RecentAttempts:
        """Returns the attempts of all models that are not in `models`. Its model is ""."""
        return self._sum("", [name for name in self._ended if name not in models])

    def _sum(self, name: str, models: Iterable[str]) -> RecentAttempts:
        found = [model for model in models if model in self._ended]
        causes: Counter[str] = Counter()
        for model in found:
            causes.update(self._causes[model])
        failed = sum(self._failed[model] for model in found)
        cause = causes.most_common(1)[0][0] if failed else ""
        return RecentAttempts(name, sum(self._ended[model] for model in found), failed, cause)
