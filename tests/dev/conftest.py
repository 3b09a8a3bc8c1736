import time
from collections.abc import Callable

import pytest


def _wait_until(predicate: Callable[[], object], seconds: float = 8.0) -> None:
    """Returns when the predicate is true; fails when it is not in time."""
    deadline = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


@pytest.fixture
def wait_until() -> Callable[..., None]:
    return _wait_until
