"""Steps the clocks of processes with libfaketime, separately for each kind of process."""

from __future__ import annotations

from pathlib import Path

KINDS = ("redis", "server", "worker")


def clock_environ(folder: Path, kind: str) -> dict[str, str]:
    """Returns the environment for a steppable clock, or an empty one without libfaketime."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        return {}
    if not (offset := _offset(folder, kind)).exists():
        offset.write_text("+0")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_CACHE_DURATION": "1",  # the delay in seconds until a step takes effect
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DISABLE_SHM": "1",
    }


def step(folder: Path, kind: str, seconds: float) -> bool:
    """Sets the clock offset of the given processes. Returns False without libfaketime."""
    if not (offset := _offset(folder, kind)).exists():
        return False
    offset.write_text(f"{seconds:+.2f}")
    return True


def _offset(folder: Path, kind: str) -> Path:
    return folder / f"clock-{kind}"
