"""Checks the resources of this machine: open files, memory and cores."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .findings import broken, ok, unknown, warning

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .findings import Context, Finding

ROOT: Final = Path("/")
MIB: Final = 1_048_576
# The files that a server opens apart from its sockets.
OTHER_FILES: Final = 100
FEW_FILES: Final = 4096
# The memory of a process without requests, including the libraries that it has loaded.
PROCESS_BYTES: Final = 100 * MIB


async def open_files(context: Context) -> AsyncIterator[Finding]:
    """Compares the limit of open files with the limit of sockets."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = context.server.max_sockets if context.server else 0
    if hard == resource.RLIM_INFINITY:
        yield ok("the number of open files is not limited")
    elif most + OTHER_FILES > hard:
        seen = f"a process may open {hard} files, but HOLDLINE_MAX_SOCKETS is {most}"
        why = "the server runs out of files before it refuses sockets"
        yield broken(seen, why, f"ulimit -n {most + OTHER_FILES}", "G10")
    elif hard < FEW_FILES:
        seen = f"a process may open {hard} files, one for each socket"
        yield warning(seen, "the server refuses further clients", "ulimit -n 65536", "G10")
    else:
        yield ok(f"a process may open {hard} files, one for each socket")


async def memory(context: Context) -> AsyncIterator[Finding]:
    """Compares the memory of this machine or its cgroup with what a worker may hold."""
    most = _memory_limit()
    if most is None:
        yield unknown("the memory of this machine is not known", "free -m")
        return
    need = 0
    if context.worker is not None:
        each = PROCESS_BYTES + context.worker.max_held_bytes
        need += context.worker.processes * each
    if context.server is not None:
        need += context.server.processes * PROCESS_BYTES
    seen = f"{most / MIB:.0f} MiB of memory, the processes may need {need / MIB:.0f} MiB"
    if need > most:
        why = "the system kills processes, and their responses restart"
        yield warning(seen, why, "export HOLDLINE_PROCESSES=1 HOLDLINE_CONCURRENCY=50", "G5")
    else:
        yield ok(seen)


async def cores(context: Context) -> AsyncIterator[Finding]:
    """Compares the cores of this machine or its cgroup with the number of processes."""
    found = min(len(os.sched_getaffinity(0)) if _has_affinity() else os.cpu_count() or 1, _quota())
    most = max(
        [program.processes for program in (context.server, context.worker) if program] or [1]
    )
    seen = f"{found:g} cores, HOLDLINE_PROCESSES is {most}"
    if most > found:
        why = "processes wait for each other, and stalled workers lose their leases"
        yield warning(seen, why, f"export HOLDLINE_PROCESSES={max(1, int(found))}", "G5")
    else:
        yield ok(seen)


def _has_affinity() -> bool:
    return sys.platform == "linux"


def _quota() -> float:
    """Returns the number of cores that the cgroup of this process allows."""
    written = _cgroup("cpu.max").split()
    if len(written) == 2 and written[0].isdigit():
        return int(written[0]) / int(written[1])
    return float("inf")


def _memory_limit() -> float | None:
    """Returns the memory of this machine, or of the cgroup if that is less, in bytes."""
    lines = _text(ROOT / "proc/meminfo").splitlines()
    limits = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:")]
    written = _cgroup("memory.max").strip()
    if written.isdigit():
        limits.append(int(written))
    return min(limits, default=None)


def _cgroup(name: str) -> str:
    """Returns a file of the cgroup (version 2) of this process, or "" if there is none."""
    for line in _text(ROOT / "proc/self/cgroup").splitlines():
        if line.startswith("0::"):
            return _text(ROOT / "sys/fs/cgroup" / line[3:].strip("/") / name)
    return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
