"""The printed report of a run, and the files that are kept after a failed run."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

from tests.chaos.checker import Verdict
from tests.chaos.run import RunResult

SHOWN = 15


def lines(
    seed: int, seconds: float, profile: str, result: RunResult, verdict: Verdict
) -> list[str]:
    """Returns the lines of the report."""
    counts = verdict.counts
    kinds, lost = _joined(result.faults.done), _joined(result.faults.lost_replies)
    ends = ", ".join(
        f"{counts[status]} {status}"
        for status in ("completed", "incomplete", "failed", "cancelled")
        if counts[status]
    )
    deleted, cancels = counts["deleted"], counts["cancels asked"]
    sockets, segments, resumes = counts["sockets"], counts["segments"], counts["resumes"]
    generated, delivered = counts["tokens generated"], counts["tokens delivered"]
    continuations, sent = f"{counts['continuations']} continuations", result.events_sent
    events, entries = counts["events received"], counts["entries"]
    feeds = f"{counts['feed events']} events of {counts['feeds']} feeds, "
    feeds += f"{counts['device resumes']} resumes"
    settled, baseline = result.settled_after, result.baseline_after
    violations = [(violation.invariant, str(violation)) for violation in verdict.violations]
    violations += [("I9", f"I9 -: {oddity}") for oddity in result.anomalies]
    sums = Counter(invariant for invariant, _ in violations)
    found = [
        f"seed {seed}, {seconds:g} s, {profile}",
        f"faults        {result.faults.done.total()}: {kinds}",
        f"lost replies  {lost or 'none'}",
        f"answers       {counts['answers']}: {ends}; {deleted} deleted, {cancels} to be cancelled",
        f"model         {counts['calls']} calls, {counts['restarts']} restarts, {continuations}",
        f"tokens        {generated} generated, {delivered} delivered; {sent} background events",
        f"clients       {len(result.history.traces)}, {sockets} sockets, {segments} segments",
        f"events        {events} of {entries} log entries, {resumes} resumes",
        f"devices       {counts['devices']}, {counts['device sockets']} sockets, {feeds}",
        f"errors sent   {_joined(verdict.codes) or 'none'}",
        f"afterwards    all ended in {settled:.1f} s, idle state {baseline:.1f} s later",
        f"violations    {len(violations)}" + (f": {_joined(sums)}" if sums else ""),
    ]
    found += [f"  {text}" for _, text in violations[:SHOWN]]
    if len(violations) > SHOWN:
        found.append(f"  and {len(violations) - SHOWN} more")
    return found


def _joined(counts: Counter[str]) -> str:
    return ", ".join(f"{what} {number}" for what, number in sorted(counts.items()))


def keep(folder: Path, work: Path, report: list[str], result: RunResult) -> None:
    """Writes all data of a run into a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "report.txt").write_text("\n".join(report) + "\n")
    for path in work.glob("*.log"):
        shutil.copy(path, folder)
    zero = result.faults.began
    injected = [f"{at:8.3f} {kind} {what}" for at, kind, what in sorted(result.faults.injected)]
    (folder / "faults.txt").write_text("\n".join(injected) + "\n")
    history = result.history
    with (folder / "traces.jsonl").open("w") as out:
        for trace in [*history.traces, *history.device_traces]:
            for line in trace.entries:
                row = [trace.client, round(line.at - zero, 4), *line[1:]]
                out.write(json.dumps(row) + "\n")
    with (folder / "logs.jsonl").open("w") as out:
        for id_, log in history.logs.items():
            out.write(json.dumps([id_, history.jobs[id_].__dict__, log]) + "\n")
    with (folder / "calls.jsonl").open("w") as out:
        for call in history.calls:
            out.write(json.dumps(call.__dict__) + "\n")
