"""What a measure is, and what a run of it gives: figures, and bounds that they keep or break."""

from __future__ import annotations

import math
import statistics
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .rig import Rig

# What one contestant did in one round: the names of its figures and their values.
Sample = Mapping[str, float]
# All contestants of one round, those that are not installed left out.
Round = Mapping[str, Sample]
Play = Callable[[], Awaitable[Sample]]


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some rounds, and how far they lie apart."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Bound:
    """What a measure must reach. `of` makes the number from one round; it raises KeyError where a
    contestant is missing. One of `least` and `most` is given.
    """

    text: str
    of: Callable[[Round], float]
    unit: str = "times"
    least: float | None = None
    most: float | None = None

    def holds(self, value: float) -> bool:
        """Whether the value keeps the bound."""
        return value >= self.least if self.least is not None else value <= (self.most or 0.0)

    @property
    def limit(self) -> str:
        """The bound as people read it."""
        return f"≥ {self.least:g}" if self.least is not None else f"≤ {self.most:g}"


@dataclass(frozen=True, slots=True)
class Measure:
    """One of P1 to P12.

    `sizes` maps `full` and `quick` to numbers that `open` understands. `open` starts what is
    needed and gives the contestants in the order in which they play; ours come first.
    `units` name the unit of each figure.
    """

    name: str
    title: str
    sizes: Mapping[str, Mapping[str, Any]]
    units: Mapping[str, str]
    bounds: tuple[Bound, ...]
    open: Callable[[Rig, Mapping[str, Any]], AbstractAsyncContextManager[Mapping[str, Play]]]
    # False where each play has processes of its own, or takes what it takes at the first time too.
    warms_up: bool = True


@dataclass(slots=True)
class Outcome:
    """What a run of one measure gave: of each round the sample of each contestant."""

    measure: Measure
    size: str
    rounds: list[dict[str, dict[str, float]]] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    def figures(self) -> dict[str, dict[str, Spread]]:
        """Contestant -> name of the figure -> its spread."""
        names = {who: list(sample) for one in self.rounds for who, sample in one.items()}
        return {
            who: {
                name: Spread.of([one[who][name] for one in self.rounds if name in one.get(who, ())])
                for name in figures
            }
            for who, figures in names.items()
        }

    def value(self, bound: Bound) -> Spread | None:
        """The number that a bound is about; None where nobody was there to compare with."""
        values = []
        for one in self.rounds:
            try:
                values.append(bound.of(one))
            except KeyError:
                continue
        return Spread.of(values) if values else None


def short(value: float) -> str:
    """Three figures that mean something, with thin groups: 1234567 is `1 230 000`."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = 2 - math.floor(math.log10(abs(value)))
    if digits > 0:
        return f"{value:.{min(digits, 4)}f}"
    return f"{round(value, digits):,.0f}".replace(",", " ")
