"""Runs single checks of `admin.doctor` on a system that has a fault."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from admin.cli import PROGRAMS
from admin.doctor import redis_server, settings
from admin.doctor.findings import Check, Context, Finding, Level
from admin.doctor.report import examine

# The settings of an installation without a fault, except for those of Redis.
FINE = {"OPENAI_API_KEY": "test", "HOLDLINE_MODEL": "simulation"}
Run = Callable[[Context], AsyncIterator[Finding]]


async def findings_of(
    run: Run, environ: dict[str, str], programs: tuple[str, ...] = PROGRAMS
) -> list[Finding]:
    """Returns the findings of one check, after the checks on which it depends."""
    checks = (
        Check("settings", settings.valid),
        Check("redis", redis_server.reach),
        Check("this", run),
    )
    context = Context(FINE | environ, programs)
    found = [each async for each in examine(context, lambda _: None, checks)]
    return [finding for subject, finding in found if subject == "this"]


async def finding_of(
    run: Run, environ: dict[str, str], programs: tuple[str, ...] = PROGRAMS
) -> Finding:
    """Returns the only finding of one check."""
    [finding] = await findings_of(run, environ, programs)
    return finding


def assert_actionable(finding: Finding, level: Level, seen: str) -> None:
    """Asserts the level and the text of a finding, and that it says why and what to type."""
    assert (level, True) == (finding.level, seen in finding.seen), finding
    assert finding.command
    assert finding.why or level is Level.UNKNOWN
    assert finding.promise or level is not Level.BROKEN
