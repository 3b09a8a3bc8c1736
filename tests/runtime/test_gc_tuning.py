from __future__ import annotations

import subprocess
import sys

SETTLED = """
import gc, weakref
from runtime.gc_tuning import THRESHOLDS, freeze_and_tune_gc

class Node: ...

def cycle():
    node = Node()
    node.self = node
    return weakref.ref(node)

before = cycle()
freeze_and_tune_gc()
assert before() is None
assert gc.get_freeze_count() > 1000
assert THRESHOLDS == gc.get_threshold()
after = cycle()
kept = [[] for _ in range(THRESHOLDS[0] + 1000)]
assert after() is None
"""


def test_objects_from_before_the_freeze_are_never_scanned_again() -> None:
    """Runs in its own process, because the freeze cannot be undone."""
    done = subprocess.run(
        [sys.executable, "-c", SETTLED], capture_output=True, text=True, timeout=30, check=False
    )
    assert (0, "") == (done.returncode, done.stderr)
