"""Stored results of several targets, and the tables of docs/torture.md that show them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torture.errors import UsageError
from torture.json_report import FORMAT, to_json
from torture.json_text import parsed
from torture.result import Report

BEGIN: Final = "<!-- Made by `torture table`. -->"
END: Final = "<!-- The end of what `torture table` made. -->"
# The worst verdict of several runs counts.
_ORDER: Final = ("error", "failed", "not possible", "passed", "not claimed")
_MAX_REASON: Final = 160


@dataclass(frozen=True)
class Column:
    """The results of one target: of one run for each seed."""

    runs: tuple[dict[str, Any], ...]

    @property
    def first(self) -> dict[str, Any]:
        """The run that describes the target."""
        return self.runs[0]

    @property
    def name(self) -> str:
        """The name of the target."""
        return str(self.first["target"])

    def verdicts(self) -> dict[str, dict[str, Any]]:
        """Returns the worst result of each case."""
        found: dict[str, dict[str, Any]] = {}
        for run in self.runs:
            for result in run["results"]:
                before = found.get(result["case"])
                if before is None or _rank(result) < _rank(before):
                    found[result["case"]] = result
        return found


def _rank(result: dict[str, Any]) -> int:
    return _ORDER.index(result["verdict"])


def store(report: Report, folder: Path) -> Path:
    """Writes the results of a whole run to a file for its target and its seed.

    Timelines and output are left out, because another run with the same seed shows them again.
    """
    data = to_json(report)
    del data["parameters"]  # they may name folders of this machine
    for result in data["results"]:
        result.pop("timeline", None)
        result.pop("output", None)
    path = folder / f"{report.target.key}-{report.seed}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def load(folder: Path) -> list[Column]:
    """Reads all stored results. Holdline's column is the first, and the others follow by name.

    Raises:
        UsageError: there are none, or a file has another format.
    """
    runs: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            data = parsed(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} cannot be read: {error}") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise UsageError(f"{path} does not have the format {FORMAT}: run its target again")
        runs.setdefault(str(data["target"]), []).append(data)
    if not runs:
        raise UsageError(f"{folder} has no results: run a target with --results {folder}")
    columns = [Column(tuple(found)) for found in runs.values()]
    return sorted(columns, key=lambda one: (one.name != "Holdline", one.name.lower()))


def update(page: Path, columns: Sequence[Column]) -> None:
    """Writes the tables between the two marks of a page.

    Raises:
        UsageError: the page lacks the marks.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError(f"{page} lacks the lines {BEGIN!r} and {END!r}")
    made = "\n".join(markdown(columns))
    page.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{after}", encoding="utf-8")


def markdown(columns: Sequence[Column]) -> Iterator[str]:
    """Returns the lines of the tables."""
    found = [column.verdicts() for column in columns]
    groups = list(dict.fromkeys(case.partition(".")[0] for one in found for case in one))
    yield f"| group | {' | '.join(column.name for column in columns)} |"
    yield "|---" * (len(columns) + 1) + "|"
    for group in groups:
        cells = (_cell(one, group) for one in found)
        yield f"| `{group}` | {' | '.join(cells)} |"
    for column, verdicts in zip(columns, found, strict=True):
        yield ""
        yield from _section(column, verdicts)


def _cell(verdicts: dict[str, dict[str, Any]], group: str) -> str:
    """Returns for example `7 of 9`: the passed ones of the claimed cases of a group."""
    claimed = [
        result
        for case, result in verdicts.items()
        if case.partition(".")[0] == group
        and result["verdict"] not in {"not claimed", "not possible"}
    ]
    if not claimed:
        return "not claimed"
    passed = sum(result["verdict"] == "passed" for result in claimed)
    counts = f"{passed} of {len(claimed)}"
    return counts if passed == len(claimed) else f"**{counts}**"


def _section(column: Column, verdicts: dict[str, dict[str, Any]]) -> Iterator[str]:
    first = column.first
    seeds = ", ".join(str(run["seed"]) for run in column.runs)
    version = f" {first['version']}" if first["version"] else ""
    yield f"### {column.name}"
    yield ""
    yield f"{first['about']} Version{version or ' unknown'}, {first['date']}, seeds {seeds}."
    yield ""
    yield "```sh"
    yield f".venv/bin/python -m torture run --target torture/targets/{first['file']}"
    yield "```"
    if first["notes"]:
        yield ""
        yield from (f"- {note}" for note in first["notes"])
    failed = [one for one in verdicts.values() if one["verdict"] in {"failed", "error"}]
    yield ""
    if not failed:
        yield "No claimed case failed."
        return
    yield "| failed case | weight | what happened | promise |"
    yield "|---|---|---|---|"
    for one in failed:
        reason = one["reason"].strip().partition("\n")[0]
        shown = reason if len(reason) <= _MAX_REASON else f"{reason[:_MAX_REASON]}..."
        escaped = shown.replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")
        url = one["promised"] or ""
        # A path is relative to the target file.
        promise = f"[page]({url})" if "://" in url else f"`{url}`"
        yield f"| `{one['case']}` | {one['weight']} | {one['claim']} {escaped} | {promise} |"
