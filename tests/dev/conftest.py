import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest


def _wait_until(predicate: Callable[[], object], seconds: float = 20.0) -> None:
    """Waits until the predicate is true. Fails if this takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)  # the polling interval


def _is_alive(pid: int) -> bool:
    """Returns whether the process is running. A zombie has a pid but does not run."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    # This system has no /proc, or the process has just ended. In the second case, the next call
    # detects the end.
    except OSError:
        return True


@pytest.fixture
def wait_until() -> Callable[..., None]:
    return _wait_until


@pytest.fixture
def is_alive() -> Callable[[int], bool]:
    return _is_alive
