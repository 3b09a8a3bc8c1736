"""Reports the result of a run as JSON, on the terminal and in docs/performance.md.

All three reports show the same dictionary, which is the content of the JSON file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from .figures import Outcome, Spread, short

ROOT: Final = Path(__file__).parent.parent
RESULTS: Final = ROOT / "bench" / "results"
LOCAL: Final = RESULTS / "local"
DOCUMENT: Final = ROOT / "docs" / "performance.md"
BEGIN: Final = "<!-- made by `python -m bench --publish`: begin -->"
END: Final = "<!-- made by `python -m bench --publish`: end -->"

Result = dict[str, Any]


def result(outcome: Outcome) -> Result:
    """Returns the result of a run as JSON-compatible data."""
    measure = outcome.measure
    bounds = []
    for bound in measure.bounds:
        value = outcome.value(bound)
        bounds.append(
            {
                "text": bound.text,
                "limit": bound.limit,
                "unit": bound.unit,
                "value": None if value is None else _spread(value),
                "holds": None if value is None else bound.holds(value.median),
            }
        )
    return {
        "name": measure.name,
        "title": measure.title,
        "size": outcome.size,
        "numbers": json.loads(json.dumps(measure.sizes[outcome.size])),
        "rounds": len(outcome.rounds),
        **outcome.about,
        "bounds": bounds,
        "units": dict(measure.units),
        "figures": {
            who: {name: _spread(spread) for name, spread in figures.items()}
            for who, figures in outcome.figures().items()
        },
        "left_out": outcome.left_out,
        "samples": outcome.rounds,
    }


def _spread(spread: Spread) -> dict[str, float]:
    return {"median": spread.median, "min": spread.low, "max": spread.high}


def keep(found: Result, folder: Path) -> Path:
    """Writes a result to a file in the folder, and returns the path of the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{found['name'].lower()}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return path


def kept(folder: Path) -> list[Result]:
    """Returns the results of all measures in a folder, in the order of their numbers."""
    found = [json.loads(path.read_bytes()) for path in folder.glob("p*.json")]
    return sorted(found, key=lambda one: int(one["name"][1:]))


def spoken(value: dict[str, float] | None) -> str:
    """Formats a median with its minimum and maximum."""
    if value is None:
        return "not measured"
    low, high = short(value["min"]), short(value["max"])
    return short(value["median"]) + ("" if low == high else f" ({low} to {high})")


def verdict(bound: dict[str, Any]) -> str:
    """Returns one or two words that say whether a bound holds."""
    return {True: "holds", False: "**behind**", None: "no peer"}[bound["holds"]]


def for_terminal(found: Result) -> str:
    """Formats the report of one benchmark as plain text."""
    lines = [
        f"{found['name']}  {found['title']}",
        f"    {found['size']} size, {found['rounds']} rounds, load before {found['load_before']}",
    ]
    for who, figures in found["figures"].items():
        said = ", ".join(
            f"{name} {spoken(value)} {found['units'].get(name, '')}".rstrip()
            for name, value in figures.items()
        )
        lines.append(f"    {who + ':':34} {said}")
    for bound in found["bounds"]:
        word, value = verdict(bound).strip("*"), spoken(bound["value"])
        lines.append(f"  {word:>7}  {bound['text']}: {value}, {bound['limit']}")
    lines += [f"    left out: {who}: {why}" for who, why in found["left_out"].items()]
    return "\n".join(lines)


def for_document(results: list[Result]) -> str:
    """Formats the generated part of docs/performance.md."""
    if not results:
        return "Nothing has been measured yet."
    parts = [_conditions(results), _bounds(results), *map(_figures, results)]
    return "\n\n".join(parts)


def _conditions(results: list[Result]) -> str:
    last = results[-1]
    machine = last["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in last["versions"].items())
    loads = [one["load_before"] for one in results]
    return (
        f"Measured on {machine['cores']} cores of {machine['processor']}, {machine['system']}, "
        f"{min(one['date'] for one in results)} to {max(one['date'] for one in results)}, "
        f"with {versions}. The load average before each measure was {min(loads)} to {max(loads)}."
        + _doubts(results)
    )


def _doubts(results: list[Result]) -> str:
    """Returns warnings about results that are unreliable."""
    said = ""
    if small := [one["name"] for one in results if one["size"] != "full"]:
        said += f" Measured with a small size, which gives only an estimate: {', '.join(small)}."
    busy = [one["name"] for one in results if one["load_before"] > one["machine"]["cores"]]
    if busy:
        said += (
            " Measured while other programs used the machine, so that delays are unreliable: "
            f"{', '.join(busy)}."
        )
    return said


def _bounds(results: list[Result]) -> str:
    heads = ("measure", "quantity", "measured", "bound", "verdict", "size, rounds")
    rows = [f"| {' | '.join(heads)} |", "|---|---|---|---|---|---|"]
    rows += [
        f"| {found['name']} | {bound['text']} | {spoken(bound['value'])} | {bound['limit']}"
        f" | {verdict(bound)} | {found['size']}, {found['rounds']} |"
        for found in results
        for bound in found["bounds"]
    ]
    return "\n".join(rows)


def _figures(found: Result) -> str:
    names = list(dict.fromkeys(name for one in found["figures"].values() for name in one))
    heads = [
        f"{name}, {found['units'][name]}" if found["units"].get(name) else name for name in names
    ]
    rows = ["| | " + " | ".join(heads) + " |", "|---|" + "---|" * len(names)]
    for who, one in found["figures"].items():
        cells = (spoken(one[name]) if name in one else "" for name in names)
        rows.append(f"| {who} | {' | '.join(cells)} |")
    left_out = "".join(f"\n\nLeft out: {who}, {why}." for who, why in found["left_out"].items())
    size = ", ".join(f"{name} {_number(value)}" for name, value in found["numbers"].items())
    head = f"### {found['name']}: {found['title']}"
    parameters = f"Parameters of this measure ({found['size']} size): {size}."
    return f"{head}\n\n{parameters}\n\n" + "\n".join(rows) + left_out


def _number(value: Any) -> str:
    return " and ".join(map(_number, value)) if isinstance(value, list) else f"{value:,}"


def between_markers(document: str, text: str) -> str:
    """Replaces the text between the markers of a document.

    Raises: ValueError if a marker is missing.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{DOCUMENT.name} does not contain the markers")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"
