"""What a run looks like on a screen, and what is kept of one that went wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.chaos.checker import Verdict
from tests.chaos.run import Ran

SHOWN = 15


def lines(seed: int, seconds: float, profile: str, ran: Ran, verdict: Verdict) -> list[str]:
    """The report."""
    counts = verdict.counts
    kinds = ", ".join(f"{kind} {number}" for kind, number in sorted(ran.faults.done.items()))
    lost = ", ".join(f"{name} {number}" for name, number in sorted(ran.faults.lost_replies.items()))
    ends = ", ".join(
        f"{counts[status]} {status}"
        for status in ("completed", "incomplete", "failed", "cancelled")
        if counts[status]
    )
    found = [
        f"seed {seed}, {seconds:g} s, {profile}",
        f"faults        {ran.faults.done.total()}: {kinds}",
        f"lost replies  {lost or 'none'}",
        f"answers       {counts['answers']}: {ends}, {counts['deleted']} deleted, "
        f"{counts['cancels asked']} asked to be cancelled",
        f"model         {counts['calls']} calls, {counts['restarts']} restarts",
        f"clients       {len(ran.story.transcripts)}, {counts['sockets']} sockets, "
        f"{counts['legs']} legs, {counts['resumes']} resumes, "
        f"{counts['events received']} events for {counts['entries']} log entries",
        f"afterwards    all ended {ran.settled_after:.1f} s after the faults, "
        f"nothing left {ran.baseline_after:.1f} s later",
    ]
    violations = [str(violation) for violation in verdict.violations]
    violations += [f"I9 -: {oddity}" for oddity in ran.oddities]
    found.append(f"violations    {len(violations)}")
    found += [f"  {violation}" for violation in violations[:SHOWN]]
    if len(violations) > SHOWN:
        found.append(f"  and {len(violations) - SHOWN} more")
    return found


def keep(folder: Path, work: Path, report: list[str], ran: Ran) -> None:
    """Writes everything that is known of a run into a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "report.txt").write_text("\n".join(report) + "\n")
    for path in work.glob("*.log"):
        shutil.copy(path, folder)
    zero = ran.faults.began
    diary = [f"{at:8.3f} {kind} {what}" for at, kind, what in sorted(ran.faults.diary)]
    (folder / "faults.txt").write_text("\n".join(diary) + "\n")
    story = ran.story
    with (folder / "transcripts.jsonl").open("w") as out:
        for transcript in story.transcripts:
            for line in transcript.lines:
                told = [transcript.client, round(line.at - zero, 4), *line[1:]]
                out.write(json.dumps(told) + "\n")
    with (folder / "logs.jsonl").open("w") as out:
        for id_, log in story.logs.items():
            out.write(json.dumps([id_, story.jobs[id_].__dict__, log]) + "\n")
    with (folder / "calls.jsonl").open("w") as out:
        for call in story.calls:
            out.write(json.dumps(call.__dict__) + "\n")
