import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest


def _wait_until(predicate: Callable[[], object], seconds: float = 20.0) -> None:
    """Returns when the predicate is true; fails when it is not in time."""
    deadline = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)  # the interval of the polling


def _is_alive(pid: int) -> bool:
    """Whether the process runs: one that nobody has waited for yet has a number, and no life."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:  # No /proc, or gone by now; the next call knows.
        return True


@pytest.fixture
def wait_until() -> Callable[..., None]:
    return _wait_until


@pytest.fixture
def is_alive() -> Callable[[int], bool]:
    return _is_alive
