"""Tests that the doctor finds a machine with too few files, too little memory or another clock."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import pytest

from admin.doctor import clock, machine, packages
from admin.doctor.findings import Level
from tests.admin.doctor.single_check import assert_actionable, finding_of

BROKEN, WARNING, OK, UNKNOWN = Level.BROKEN, Level.WARNING, Level.OK, Level.UNKNOWN


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replaces /proc and /sys by empty folders."""
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    for folder in ("proc/self", "sys/fs/cgroup/box"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/box\n")
    return tmp_path


@pytest.mark.parametrize(
    ("hard", "sockets", "level", "seen"),
    [
        (resource.RLIM_INFINITY, "0", OK, "is not limited"),
        (65_536, "0", OK, "may open 65536 files"),
        (1024, "0", WARNING, "may open 1024 files"),
        (65_536, "65000", OK, "may open 65536 files"),
        (65_536, "65500", BROKEN, "may open 65536 files, but HOLDLINE_MAX_SOCKETS is 65500"),
    ],
)
async def test_the_limit_of_open_files_is_compared_with_the_sockets(
    monkeypatch: pytest.MonkeyPatch, hard: int, sockets: str, level: Level, seen: str
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, hard))
    finding = await finding_of(machine.open_files, {"HOLDLINE_MAX_SOCKETS": sockets})
    assert (level, True) == (finding.level, seen in finding.seen)
    assert (level is OK) == (not finding.command)


@pytest.mark.parametrize(
    ("total", "limit", "level", "seen"),
    [
        ("MemTotal: 8000000 kB", "max", OK, "7812 MiB"),
        ("MemTotal: 8000000 kB", str(100 * 1_048_576), WARNING, "100 MiB"),
        ("MemTotal: 80000 kB", "max", WARNING, "78 MiB"),
        ("", "", UNKNOWN, "not known"),
    ],
)
async def test_the_memory_of_the_cgroup_is_compared_with_that_of_the_processes(
    root: Path, total: str, limit: str, level: Level, seen: str
) -> None:
    (root / "proc/meminfo").write_text(f"{total}\n")
    (root / "sys/fs/cgroup/box/memory.max").write_text(f"{limit}\n")
    finding = await finding_of(machine.memory, {})
    assert (level, True) == (finding.level, seen in finding.seen)


@pytest.mark.parametrize(
    ("quota", "processes", "level"),
    [("max 100000", "1", OK), ("150000 100000", "1", OK), ("150000 100000", "2", WARNING)],
)
async def test_the_cores_of_the_cgroup_are_compared_with_the_processes(
    root: Path, quota: str, processes: str, level: Level
) -> None:
    (root / "sys/fs/cgroup/box/cpu.max").write_text(f"{quota}\n")
    finding = await finding_of(machine.cores, {"HOLDLINE_PROCESSES": processes})
    assert level is finding.level
    if level is WARNING:
        assert_actionable(finding, WARNING, "1.5 cores, HOLDLINE_PROCESSES is 2")
        assert "export HOLDLINE_PROCESSES=1" == finding.command


@pytest.mark.parametrize(
    ("ahead", "settings", "level"),
    [
        (0.0, {}, OK),
        (30.0, {}, WARNING),
        (-30.0, {}, WARNING),
        (3600.0, {"HOLDLINE_API_KEYS": "redis"}, BROKEN),
    ],
)
async def test_the_clock_is_compared_with_that_of_redis(
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    ahead: float,
    settings: dict[str, str],
    level: Level,
) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + ahead)
    finding = await finding_of(clock.offset, {"REDIS_URL": redis_url, **settings})
    assert level is finding.level
    if ahead:
        word = "ahead of" if ahead > 0 else "behind"
        assert_actionable(finding, level, f" s {word} that of Redis")


@pytest.mark.heavy
async def test_packages_that_differ_from_the_lock_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert OK is (await finding_of(packages.python, {})).level
    lock = tmp_path / "requirements.txt"
    monkeypatch.setattr(packages, "LOCK", lock)
    assert_actionable(await finding_of(packages.packages, {}), UNKNOWN, "no requirements.txt")
    lock.write_text(
        "# made by a tool\n"
        "aiohttp==0.1.2 \\\n    --hash=sha256:00\n"
        "no-such-package==1.0 \\\n    --hash=sha256:00\n"
        'only-elsewhere==1.0 ; sys_platform == "win32" \\\n    --hash=sha256:00\n'
    )
    finding = await finding_of(packages.packages, {})
    assert_actionable(finding, WARNING, " instead of 0.1.2, no-such-package is missing")
    assert "only-elsewhere" not in finding.seen
    # The command changes this environment, whichever pip the PATH has.
    assert sys.executable in finding.command
    monkeypatch.setattr(sys, "version_info", (3, 10, 1))
    assert_actionable(await finding_of(packages.python, {}), BROKEN, "Python 3.10.1")


async def test_the_lock_of_the_checkout_is_read() -> None:
    finding = await finding_of(packages.packages, {})
    assert OK is finding.level, finding
    assert int(finding.seen.split()[0]) > 20
