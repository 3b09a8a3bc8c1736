"""Metrics of one process in the data model of Prometheus.

A single thread updates the values, so they need no lock. Updating one is an addition, cheap enough
for each event that a client receives. The library prometheus_client only writes the text format.

A metric is declared once, as a `Metric`: the documents and the text format use the declaration.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate
from math import floor
from typing import TYPE_CHECKING, Final, Generic, Literal, TypeVar

from prometheus_client import generate_latest
from prometheus_client.core import Metric as MetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
# A metric has at most this many combinations of label values. Further ones are added to the
# combination of which each label has the value "other".
MAX_CHILDREN: Final = 1000
OTHER: Final = "other"

# Totals are multiples of 1/_STEPS, whose sums are exact in any order. Otherwise the sum over
# several processes could decrease in its last digit, which Prometheus treats as a restart.
_STEPS: Final = 1 << 20

LabelValues = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """The declaration of a metric. `meaning` and `problem` are Markdown for the documents.

    `buckets` are the upper bounds of a histogram's buckets, without infinity. `merge` says how the
    values of a gauge are combined for the processes of one program: their sum, or the largest or
    smallest of them.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    problem: str = ""
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    merge: Literal["sum", "max", "min"] = "sum"

    @property
    def unit(self) -> str:
        """The unit of the values, which the name ends with, or "" for a number of things."""
        last = self.name.removesuffix("_total").rpartition("_")[2]
        return last if last in ("seconds", "bytes") else ""


class Value:
    """One value of a counter or a gauge. Code on the hot path changes `count` directly."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0.0

    def inc(self, by: float = 1) -> None:
        """Increases the value."""
        self.count += by

    def dec(self) -> None:
        """Decreases the value of a gauge by 1."""
        self.count -= 1

    def set(self, count: float) -> None:
        """Sets the value of a gauge. True counts as 1."""
        self.count = float(count)

    def numbers(self) -> list[float]:
        """Returns the state as a list of numbers that may be added to those of other processes."""
        return [self.count]


class Distribution:
    """One distribution of a histogram. The last of its buckets has no upper bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Adds a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def numbers(self) -> list[float]:
        """Returns the number of values in each bucket, and then the sum of all values."""
        return [*self.counts, self.total]


C = TypeVar("C", Value, Distribution)


class Family(Generic[C]):
    """The values of one metric, by their label values."""

    def __init__(self, metric: Metric, make: Callable[[], C]) -> None:
        self.metric = metric
        self.children: dict[LabelValues, C] = {}
        self._make: Callable[[], C] = make

    def labels(self, *values: str) -> C:
        """Returns the value for these label values, in the order of the declaration."""
        child = self.children.get(values)
        if child is None:
            if len(self.children) >= MAX_CHILDREN:
                values = (OTHER,) * len(values)
            child = self.children.setdefault(values, self._make())
        return child

    def replace(self, counts: dict[LabelValues, float]) -> None:
        """Replaces all values of a gauge, so that label values that have ended disappear."""
        self.children.clear()
        for values, count in counts.items():
            child = self.labels(*values)
            if isinstance(child, Value):
                child.count += count


@dataclass(slots=True)
class State:
    """All values of one process, or of several processes together.

    `totals` contains the numbers of counters and histograms, which never decrease. `gauges`
    contains the numbers of gauges. Both are by name and label values.
    """

    totals: dict[str, dict[LabelValues, list[float]]] = field(default_factory=dict)
    gauges: dict[str, dict[LabelValues, list[float]]] = field(default_factory=dict)

    def add_totals(self, other: State) -> None:
        """Adds the counters and histograms of another process."""
        for name, children in other.totals.items():
            mine = self.totals.setdefault(name, {})
            for values, numbers in children.items():
                before = mine.get(values)
                same = before is not None and len(before) == len(numbers)
                mine[values] = (
                    [a + b for a, b in zip(before or (), numbers, strict=True)] if same else numbers
                )


class Registry:
    """The metrics of one process. Each metric is added once."""

    def __init__(self) -> None:
        self._families: dict[str, Family[Value] | Family[Distribution]] = {}
        self._before: list[Callable[[], None]] = []

    @property
    def metrics(self) -> list[Metric]:
        """The declarations of all metrics."""
        return [family.metric for family in self._families.values()]

    def values(self, metric: Metric, *known: str | LabelValues) -> Family[Value]:
        """Adds a counter or a gauge with labels.

        `known` are label values that exist from the beginning. Prometheus does not see the first
        increase of a series that appears with it, so an alert would miss it.
        """
        family = self._add(Family(metric, Value))
        for values in known:
            family.labels(*((values,) if isinstance(values, str) else values))
        return family

    def value(self, metric: Metric) -> Value:
        """Adds a counter or a gauge without labels."""
        return self.values(metric).labels()

    def distributions(self, metric: Metric) -> Family[Distribution]:
        """Adds a histogram with labels."""
        return self._add(Family(metric, lambda: Distribution(metric.buckets)))

    def distribution(self, metric: Metric) -> Distribution:
        """Adds a histogram without labels."""
        return self.distributions(metric).labels()

    def adopt(self, family: Family[Value] | Family[Distribution]) -> None:
        """Adds a metric whose values exist once in a process, such as those of its connections."""
        self._families[family.metric.name] = family

    def before_reading(self, update: Callable[[], None]) -> None:
        """Registers a function that updates gauges, and is called before all values are read."""
        self._before.append(update)

    def state(self) -> State:
        """Returns the current values."""
        for update in self._before:
            update()
        state = State()
        for name, family in self._families.items():
            numbers = {values: one.numbers() for values, one in family.children.items()}
            if family.metric.kind == "gauge":
                state.gauges[name] = numbers
            else:
                state.totals[name] = {
                    values: [floor(number * _STEPS) / _STEPS for number in some]
                    for values, some in numbers.items()
                }
        return state

    def get(self, name: str, *values: str) -> float:
        """Returns one value, or the number of values of a distribution. For tests."""
        for update in self._before:
            update()
        child = self._families[name].children.get(values)
        if isinstance(child, Distribution):
            return sum(child.counts)
        return child.count if child is not None else 0.0

    def _add(self, family: Family[C]) -> Family[C]:
        if family.metric.name in self._families:
            raise ValueError(f"the metric {family.metric.name} exists already")
        self._families[family.metric.name] = family
        return family


_MERGES: Final[dict[str, Callable[[Iterable[float]], float]]] = {
    "sum": sum,
    "max": max,
    "min": min,
}


def merged(metrics: Iterable[Metric], live: list[State], ended: State) -> State:
    """Returns the values of several processes of one program together.

    `ended` contains the totals of processes that have ended. They still count, because a counter
    must not decrease. Gauges are merged over the `live` processes only.
    """
    found = State()
    for state in (ended, *live):
        found.add_totals(state)
    for metric in metrics:
        if metric.kind == "gauge":
            numbers: dict[LabelValues, list[float]] = {}
            for state in live:
                for values, [count] in state.gauges.get(metric.name, {}).items():
                    numbers.setdefault(values, []).append(count)
            merge = _MERGES[metric.merge]
            found.gauges[metric.name] = {values: [merge(all_)] for values, all_ in numbers.items()}
    return found


def render(metrics: Iterable[Metric], state: State) -> bytes:
    """Returns the values in the text format of Prometheus."""
    return generate_latest(_Families(metrics, state))


class _Families(Collector):
    def __init__(self, metrics: Iterable[Metric], state: State) -> None:
        self._metrics = metrics
        self._state = state

    def collect(self) -> Iterator[MetricFamily]:
        for metric in self._metrics:
            kind = self._state.gauges if metric.kind == "gauge" else self._state.totals
            # prometheus_client adds `_total` to the name of a counter.
            name = metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name
            family = MetricFamily(name, _plain(metric.meaning), metric.kind)
            for values, numbers in kind.get(metric.name, {}).items():
                labels = dict(zip(metric.labels, values, strict=True))
                if metric.kind != "histogram":
                    family.add_sample(metric.name, labels, numbers[0])
                    continue
                *counts, total = numbers
                bounds = [*map(floatToGoString, metric.buckets), "+Inf"]
                for bound, count in zip(bounds, accumulate(counts), strict=True):
                    family.add_sample(f"{metric.name}_bucket", {**labels, "le": bound}, count)
                family.add_sample(f"{metric.name}_sum", labels, total)
                family.add_sample(f"{metric.name}_count", labels, sum(counts))
            yield family


def markdown(metrics: Iterable[Metric]) -> str:
    """Returns the table of the metrics for the documents."""
    rows = [
        "| name | type | labels | unit | meaning | a problem if |",
        "|---|---|---|---|---|---|",
    ]
    for metric in metrics:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        cells = (f"`{metric.name}`", metric.kind, labels, metric.unit, metric.meaning)
        rows.append(f"| {' | '.join((*cells, metric.problem))} |".replace("|  |", "| |"))
    return "\n".join(rows).replace("|  |", "| |")


def _plain(meaning: str) -> str:
    """Returns a text without Markdown links and backticks."""
    text = meaning
    while (start := text.find("](")) >= 0:
        end = text.index(")", start)
        text = text[:start] + text[end + 1 :]
    return text.replace("[", "").replace("`", "")
