"""Tunes the cyclic garbage collector, whose runs block the event loop."""

from __future__ import annotations

import gc
from typing import Final

# The arguments of `gc.set_threshold`. With Python's 700 for the youngest generation, a worker with
# a hundred responses spends a tenth of its time in the collector, which traverses the live objects
# of all responses again and again. Reference counting frees nearly everything without it.
THRESHOLDS: Final = (20_000, 20, 20)


def freeze_and_tune_gc() -> None:
    """Excludes all present objects from collection, and sets the thresholds.

    It is called when the process is ready. Modules, types and functions are some hundred thousand
    objects that live as long as the process. A full collection that includes them blocks the event
    loop, and so delays every token, for a tenth of a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
