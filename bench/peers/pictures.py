"""Draws the three pictures of docs/performance.md from bench/results."""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "bench" / "results"
IMAGES = ROOT / "docs" / "images"
OURS, THEIRS, REDIS = "#2563eb", "#9ca3af", "#93c5fd"

mpl.use("svg")
# With a fixed salt, the same figures always produce the same file.
mpl.rcParams.update({"svg.hashsalt": "holdline", "svg.fonttype": "none", "font.size": 10})

Figures = dict[str, dict[str, dict[str, float]]]


def figures(name: str) -> Figures | None:
    """Returns the figures of a benchmark, or None if bench/results has no result of it."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_bytes())["figures"] if path.exists() else None


def said(value: float) -> str:
    """Formats a number with three significant digits; 100 and more become integers."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def bars(axes: Any, found: Figures, figure: str, label: str) -> None:
    """Draws one bar for each contestant, with its minimum and maximum over the rounds."""
    names = [who for who in found if figure in found[who]][::-1]
    values = [found[who][figure] for who in names]
    middle = [value["median"] for value in values]
    spread = [
        [value["median"] - value["min"] for value in values],
        [value["max"] - value["median"] for value in values],
    ]
    colours = [OURS if who.startswith("holdline") else THEIRS for who in names]
    drawn = axes.barh(names, middle, xerr=spread, color=colours, ecolor="#374151", capsize=3)
    axes.bar_label(drawn, labels=[said(value) for value in middle], padding=6)
    axes.set_xlabel(label)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.margins(x=0.15)


def delay() -> None:
    """Draws the delay from the prompt to the complete answer."""
    if found := figures("p2"):
        figure, axes = plt.subplots(figsize=(8, 2.2))
        bars(axes, found, "p50", "ms from prompt to whole answer, median, the model taking none")
        axes.set_xscale("log")
        axes.set_xlim(1, 10_000)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        save(figure, "bench-delay")


def flat() -> None:
    """Draws the cost of an event, a job and a resume under a small and a large load."""
    if not (found := figures("p10")):
        return
    figure, panels = plt.subplots(1, 3, figsize=(10, 2.8))
    pairs = {
        "an event": ("few sockets", "many sockets"),
        "a job": ("no backlog", "backlog"),
        "a resume": ("resume of short", "resume of long"),
    }
    for axes, (title, names) in zip(panels, pairs.items(), strict=True):
        ours = [found[who].get("server", found[who].get("worker", {}))["median"] for who in names]
        redis = [found[who]["redis"]["median"] for who in names]
        axes.bar(names, ours, color=OURS, label="server or worker")
        axes.bar(names, redis, bottom=ours, color=REDIS, label="Redis")
        axes.set_title(title)
        axes.tick_params(axis="x", labelsize=8)
    panels[0].set_ylabel("µs of CPU")
    panels[-1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.02, 1))
    save(figure, "bench-flat")


def tokens() -> None:
    """Draws the tokens per CPU second of a worker and of the SDK."""
    if found := figures("p7"):
        figure, axes = plt.subplots(figsize=(8, 2.2))
        bars(axes, found, "tokens per worker CPU second", "tokens a second of one core")
        save(figure, "bench-tokens")


def save(figure: Any, name: str) -> None:
    """Writes a figure as SVG, without a creation date, so that the file is reproducible."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(IMAGES / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    delay()
    flat()
    tokens()
