"""Defines the types of benchmarks and their results: measures, samples, figures and bounds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .rig import Rig

# The figures of one contestant (a system under comparison) in one round, by name.
Sample = Mapping[str, float]
# The samples of one round, by contestant. A peer that is not installed has no sample.
Round = Mapping[str, Sample]
Play = Callable[[], Awaitable[Sample]]


@dataclass(frozen=True, slots=True)
class Spread:
    """The median, the minimum and the maximum of a value over all rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Computes the spread of a non-empty list."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Bound:
    """A target for one ratio or figure, with either a minimum (`least`) or a maximum (`most`).

    `of` computes the value from one round, and raises KeyError if a required contestant is missing.
    """

    text: str
    of: Callable[[Round], float]
    unit: str = "times"
    least: float | None = None
    most: float | None = None

    def holds(self, value: float) -> bool:
        """Returns whether the value satisfies the bound."""
        return value >= self.least if self.least is not None else value <= (self.most or 0.0)

    @property
    def limit(self) -> str:
        """The limit as text, such as `≥ 4`."""
        return f"≥ {self.least:g}" if self.least is not None else f"≤ {self.most:g}"


@dataclass(frozen=True, slots=True)
class Measure:
    """One of the benchmarks P1 to P19.

    `sizes` maps `full` and `quick` to the parameters of `open`. `open` starts the required
    processes and yields the contestants, which are the systems under comparison, in their order for
    the first round; Holdline comes first. `units` maps each figure to its unit.
    """

    name: str
    title: str
    sizes: Mapping[str, Mapping[str, Any]]
    units: Mapping[str, str]
    bounds: tuple[Bound, ...]
    open: Callable[[Rig, Mapping[str, Any]], AbstractAsyncContextManager[Mapping[str, Play]]]
    # False if the benchmark needs no warm-up. This is the case if each run of a contestant starts
    # its own processes, or if the first run costs the same as later runs.
    warms_up: bool = True


@dataclass(slots=True)
class Outcome:
    """The result of a benchmark run: one sample per contestant for each round."""

    measure: Measure
    size: str
    rounds: list[dict[str, dict[str, float]]] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    def figures(self) -> dict[str, dict[str, Spread]]:
        """Returns the spread of each figure over the rounds, by contestant and name."""
        names = {who: list(sample) for one in self.rounds for who, sample in one.items()}
        return {
            who: {
                name: Spread.of([one[who][name] for one in self.rounds if name in one.get(who, ())])
                for name in figures
            }
            for who, figures in names.items()
        }

    def value(self, bound: Bound) -> Spread | None:
        """Returns the spread of a bound's value, or None if a peer is missing in every round."""
        values = []
        for one in self.rounds:
            try:
                values.append(bound.of(one))
            except KeyError:
                continue
        return Spread.of(values) if values else None


def short(value: float) -> str:
    """Formats a number with three significant digits and thin spaces: 1234567 is `1 230 000`."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = 2 - math.floor(math.log10(abs(value)))
    if digits > 0:
        return f"{value:.{min(digits, 4)}f}"
    return f"{round(value, digits):,.0f}".replace(",", " ")
