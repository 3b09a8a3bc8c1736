"""Results as one HTML page, with a timeline of each failed case. The page has no scripts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Final

from torture.runner import Report, Result, Verdict
from torture.timeline import Entry

_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid #8884; padding: .25rem .5rem; text-align: left; }
td { vertical-align: top; }
.timeline td { font: 12px/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
.timeline td:first-child { text-align: right; }
.timeline td:nth-child(-n + 2) { white-space: nowrap; }
.passed { color: #15803d; } .failed, .error { color: #dc2626; font-weight: 600; }
.fault td { background: #f59e0b33; } .lost td { background: #ef444433; }
.sent td { background: #3b82f622; } .model td { background: #8b5cf622; }
details { margin: .5rem 0 1.5rem; } pre { overflow: auto; white-space: pre-wrap; }
"""
_LEGEND: Final = (
    ("sent", "a request or message of a client"),
    ("arrived", "a reply or event that a client has received"),
    ("model", "the beginning, a piece or the end of a call of the model"),
    ("fault", "a fault of a process"),
    ("lost", "a lost connection"),
)


def write(report: Report, path: Path) -> None:
    """Writes a report."""
    path.write_text("\n".join(_page(report)) + "\n", encoding="utf-8")


def _page(report: Report) -> Iterator[str]:
    target = report.target
    title = escape(f"{target.name} {report.version}".strip())
    counts = Counter(result.verdict for result in report.results)
    yield "<!doctype html>"
    yield f'<html lang="en"><meta charset="utf-8"><title>{title}: torture suite</title>'
    yield f"<style>{_STYLE}</style>"
    yield f"<h1>{title}</h1>"
    yield f"<p>{escape(target.about)}</p>"
    counted = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict])
    yield f"<p>{counted}. Seed {report.seed}, {report.began.date().isoformat()}.</p>"
    if target.notes:
        yield f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in target.notes)}</ul>"
    if report.failed:
        yield "<h2>Failed cases</h2>"
        legend = "".join(
            f'<tr class="{kind}"><td>{kind}</td><td></td><td>{escape(text)}</td></tr>'
            for kind, text in _LEGEND
        )
        yield f'<table class="timeline">{legend}</table>'
    for result in report.failed:
        yield from _failed(result)
    yield "<h2>All cases</h2><table><tr><th>case<th>claim<th>weight<th>result<th>calls"
    for result in report.results:
        yield _row(result)
    yield "</table></html>"


def _failed(result: Result) -> Iterator[str]:
    case = result.case
    yield f"<h3>{escape(case.id)}</h3><p>{escape(case.claim)}</p>"
    sources = [_link(case.section, "The standard")]
    if result.claim:
        sources.append(_link(result.claim.url, "The target's promise"))
        sources.append(escape(result.claim.promise))
    yield f"<p>{' · '.join(filter(None, sources))}</p>"
    yield f'<pre class="{result.verdict}">{escape(result.reason)}</pre>'
    yield '<details open><summary>Timeline, in milliseconds</summary><table class="timeline">'
    for entry in result.timeline.merged():
        yield _entry(entry)
    yield "</table></details>"


def _link(url: str, text: str) -> str:
    # A path is relative to the target file, and not to this page.
    if "://" not in url:
        return f"{escape(text)}: <code>{escape(url)}</code>"
    return f'<a href="{escape(url)}">{escape(text)}</a>'


def _entry(entry: Entry) -> str:
    cells = (f"{entry.at * 1000:.0f}", entry.who, entry.text)
    return f'<tr class="{entry.kind}">{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'


def _row(result: Result) -> str:
    case = result.case
    calls = ", ".join(map(str, result.calls))
    kind = str(result.verdict).replace(" ", "-")
    return (
        f"<tr><td>{escape(case.id)}<td>{escape(case.claim)}<td>{result.weight}"
        f'<td class="{kind}">{result.verdict}<td>{calls}'
    )
