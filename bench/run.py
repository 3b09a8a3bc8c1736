"""Runs a benchmark in rounds.

Within a round, the contestants run one after another, so that changes of the machine's speed affect
all contestants equally.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from command.up.redis import installed

from .figures import Measure, Outcome
from .rig import NODE_MODULES, Rig

VERSIONS = {
    **{name: name for name in ("aiohttp", "hiredis", "openai", "uvloop")},
    "redis-py": "redis",
}
PACKAGES = ("bullmq", "ws", "socket.io")


async def run(measure: Measure, size: str, rounds: int, tell: Callable[[str], None]) -> Outcome:
    """Runs a benchmark for the given number of rounds, after a warm-up if the benchmark has one.

    Raises: BenchError, TimeoutError.
    """
    outcome = Outcome(measure, size, about=about())
    async with Rig() as rig, measure.open(rig, measure.sizes[size]) as contestants:
        plays = list(contestants.items())
        for _, play in plays if measure.warms_up else ():
            await play()
        for number in range(rounds):
            # Each round begins with the next contestant. The one that began the previous round runs
            # last.
            turn = number % len(plays)
            one: dict[str, dict[str, float]] = {}
            for who, play in plays[turn:] + plays[:turn]:
                one[who] = dict(await play())
                tell(f"{measure.name} round {number + 1} of {rounds}: {who}")
            outcome.rounds.append({who: one[who] for who, _ in plays})
        outcome.left_out = dict(rig.left_out)
    return outcome


def about() -> dict[str, Any]:
    """Returns the date, the machine, the versions and the load average before the run."""
    redis = installed(os.environ.get("PATH"))
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": _said("git", "rev-parse", "--short", "HEAD"),
        "load_before": round(os.getloadavg()[0], 2),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.release().split('-')[0]}",
        },
        "versions": {
            "Python": platform.python_version(),
            "Valkey" if "valkey" in redis.path.name else "Redis": redis.version,
            **{name: version(package) for name, package in VERSIONS.items()},
            "Node.js": _said("node", "--version").lstrip("v"),
            **{name: _package(name) for name in PACKAGES},
        },
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _package(name: str) -> str:
    import json

    manifest = NODE_MODULES / name / "package.json"
    return str(json.loads(manifest.read_bytes())["version"]) if manifest.exists() else "missing"


def _said(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "missing"
    return done.stdout.strip()


def tell_progress(line: str) -> None:
    """Shows a progress line on a terminal, in place of the previous progress line."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
