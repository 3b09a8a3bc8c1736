"""Results as JSON, for programs and for the tables of docs/torture.md."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any, Final

from torture.result import VERSION, Report, Result

FORMAT: Final = 1


def write(report: Report, path: Path) -> None:
    """Writes a report, with the timelines of failed cases and the output of their processes."""
    text = json.dumps(to_json(report), indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def to_json(report: Report) -> dict[str, Any]:
    """Returns a report as a JSON object."""
    target = report.target
    return {
        "format": FORMAT,
        "suite": VERSION,
        "target": target.name,
        "key": target.key,
        "file": target.path.name,
        "about": target.about,
        "home": target.home,
        "version": report.version,
        "parameters": dict(target.parameters),
        "notes": list(target.notes),
        "time_factor": target.time_factor,
        "seed": report.seed,
        "date": report.began.date().isoformat(),
        "python": platform.python_version(),
        "seconds": round(sum(result.seconds for result in report.results), 1),
        "results": [_result(result) for result in report.results],
    }


def _result(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = {
        "case": result.case.id,
        "claim": result.case.claim,
        "section": result.case.section,
        "weight": result.weight,
        "verdict": result.verdict,
        "promised": result.claim.url if result.claim else None,
        "reason": result.reason,
        "seconds": round(result.seconds, 2),
        "calls": result.calls,
    }
    if result.if_claimed:
        found["if_claimed"] = result.if_claimed
    if result.bad:
        found["timeline"] = [
            [round(one.at, 3), one.who, one.kind, one.text] for one in result.timeline.merged()
        ]
        found["output"] = {name: list(lines) for name, lines in result.output.items()}
    return found
