"""Results as one HTML page, with a timeline of each failed case. The page has no scripts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Final

from torture.result import Report, Result
from torture.timeline import Entry

_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --bad: #b91c1c; --good: #15803d; --dim: #6b7280; }
@media (prefers-color-scheme: dark) { :root { --bad: #f87171; --good: #4ade80; --dim: #9ca3af; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
h3 { border-top: 1px solid var(--line); margin-top: 2.5rem; padding-top: 1rem; }
h3, code, td:last-child { overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .5rem; text-align: left; }
td { vertical-align: top; }
.timeline td { font: 12px/1.4 ui-monospace, monospace; }
.timeline td:first-child { text-align: right; }
.timeline td:nth-child(-n + 2) { white-space: nowrap; }
.passed { color: var(--good); } .failed, .error { color: var(--bad); font-weight: 600; }
.not-claimed, .not-possible { color: var(--dim); }
.fault td { background: #f59e0b33; } .lost td { background: #ef444433; }
.sent td { background: #3b82f622; } .model td { background: #8b5cf622; }
.legend span { border-radius: .2rem; padding: .1rem .4rem; }
span.fault { background: #f59e0b33; } span.lost { background: #ef444433; }
span.sent { background: #3b82f622; } span.model { background: #8b5cf622; }
span.arrived { border: 1px solid var(--line); }
details { margin: .5rem 0; } summary { cursor: pointer; }
pre { margin: .5rem 0; overflow-wrap: anywhere; white-space: pre-wrap; }
.output { border-left: 3px solid var(--line); font-size: 12px; padding-left: .75rem; }
@media (max-width: 40rem) {
  .timeline tr { display: grid; grid-template-columns: 4rem 1fr; }
  .timeline td:first-child { text-align: left; }
  .timeline td:nth-child(-n + 2) { border: 0; padding-bottom: 0; }
  .timeline td:last-child { grid-column: 1 / -1; }
  .cases tr { border-bottom: 1px solid var(--line); display: block; padding: .4rem 0; }
  .cases th { display: none; }
  .cases td { border: 0; display: inline; padding: 0 .6rem 0 0; }
  .cases td:nth-child(2) { display: block; }
}
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
    yield "<!doctype html>"
    yield f'<html lang="en"><meta charset="utf-8"><title>{title}: torture suite</title>'
    yield '<meta name="viewport" content="width=device-width">'
    yield f"<style>{_STYLE}</style>"
    yield f"<h1>{title}</h1>"
    yield f"<p>{escape(target.about)}</p>"
    yield f"<p>{report.counts()}. Seed {report.seed}, {report.began.date().isoformat()}.</p>"
    if target.notes:
        yield f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in target.notes)}</ul>"
    if report.failed:
        yield "<h2>Failed cases</h2>"
        yield from _legend()
    for result in report.failed:
        yield from _failed(result)
    if report.tried:
        yield from _tried(report)
    yield "<h2>All cases</h2>"
    yield '<table class="cases"><tr><th>case<th>claim<th>weight<th>result<th>calls'
    for result in report.results:
        yield _row(result)
    yield "</table></html>"


def _legend() -> Iterator[str]:
    words = (f'<span class="{kind}">{kind}</span> {escape(text)}' for kind, text in _LEGEND)
    yield f'<p class="legend">In the timelines: {"; ".join(words)}.</p>'


def _tried(report: Report) -> Iterator[str]:
    yield "<h2>Cases without a claim</h2>"
    yield "<p>The target does not claim these cases. They were run because of --all and have no"
    yield "verdict: a case that would fail is not a failure of the target.</p>"
    bad = [result for result in report.tried if result.bad]
    if bad and not report.failed:
        yield from _legend()
    yield '<table class="cases"><tr><th>case<th>claim<th>if claimed'
    for result in report.tried:
        case = result.case
        reason = f": {escape(result.reason)}" if result.reason and not result.bad else ""
        yield (
            f"<tr><td>{escape(case.id)}<td>{escape(case.claim)}"
            f'<td class="not-claimed">{result.without_claim}{reason}'
        )
    yield "</table>"
    for result in bad:
        yield f"<details><summary>{escape(result.case.id)}: {result.without_claim}</summary>"
        yield f"<pre>{escape(result.reason)}</pre>"
        yield from _details(result, opened=False)
        yield "</details>"


def _failed(result: Result) -> Iterator[str]:
    case = result.case
    yield f"<h3>{escape(case.id)}</h3><p>{escape(case.claim)}</p>"
    sources = [_link(case.section, "The standard")]
    if result.claim:
        sources.append(_link(result.claim.url, "The target's promise"))
        sources.append(escape(result.claim.promise))
    yield f"<p>{' · '.join(filter(None, sources))}</p>"
    yield f'<pre class="{result.verdict}">{escape(result.reason)}</pre>'
    yield from _details(result, opened=True)


def _details(result: Result, *, opened: bool) -> Iterator[str]:
    entries = result.timeline.merged()
    if entries:
        state = " open" if opened else ""
        yield f"<details{state}><summary>Timeline, in milliseconds</summary>"
        yield '<table class="timeline">'
        yield from map(_entry, entries)
        yield "</table></details>"
    silent = []
    for name, lines in result.output.items():
        if lines:
            yield from _output(name, lines)
        else:
            silent.append(name)
    if silent:
        yield f"<p>No output: {escape(', '.join(silent))}</p>"


def _output(name: str, lines: Sequence[str]) -> Iterator[str]:
    yield f"<details><summary>Output of {escape(name)}, the last lines</summary>"
    yield f'<pre class="output">{escape(chr(10).join(lines))}</pre></details>'


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
