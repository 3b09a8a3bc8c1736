"""Tunes Python's cyclic garbage collector, because each of its runs blocks the event loop."""

from __future__ import annotations

import gc
from typing import Final

# The arguments of `gc.set_threshold`. With Python's default of 700 for the youngest generation, a
# worker with a hundred responses spends a tenth of its time in the garbage collector, which
# traverses the live objects of all responses at each run. Reference counting frees nearly all
# memory without the collector, so it can run less often.
THRESHOLDS: Final = (20_000, 20, 20)


def freeze_and_tune_gc() -> None:
    """Excludes all existing objects from garbage collection, and sets `THRESHOLDS`.

    Call it once the process is ready. Modules, types and functions are about a hundred thousand
    objects that live as long as the process. A full collection that traversed them would block the
    event loop, and delay every token, for a tenth of a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
