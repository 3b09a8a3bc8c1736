"""Clocks that step, by libfaketime: one for each kind of process in a run."""

from __future__ import annotations

from pathlib import Path

KINDS = ("redis", "server", "worker")


def clock_environ(folder: Path, kind: str) -> dict[str, str]:
    """The environment of a process whose clock `step` moves; empty where libfaketime is missing."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        return {}
    if not (offset := _offset(folder, kind)).exists():
        offset.write_text("+0")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_CACHE_DURATION": "1",  # seconds until a step is noticed
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DISABLE_SHM": "1",
    }


def step(folder: Path, kind: str, seconds: float) -> bool:
    """Sets the clock of these processes that far from the true time, if libfaketime is there."""
    if not (offset := _offset(folder, kind)).exists():
        return False
    offset.write_text(f"{seconds:+.2f}")
    return True


def _offset(folder: Path, kind: str) -> Path:
    return folder / f"clock-{kind}"
