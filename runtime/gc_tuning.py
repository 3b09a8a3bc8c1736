"""Python's search for cycles, which stands in the way of whatever the loop has to do meanwhile."""

from __future__ import annotations

import gc
from typing import Final

# New containers until the newest are looked through, then how often that until those that were left
# are. With 700, as Python has it, a worker of a hundred answers is at it for a tenth of its time,
# because each time all that is under way has to be walked through again. What is freed without a
# search, which is nearly everything, does not count.
THRESHOLDS: Final = (20_000, 20, 20)


def freeze_and_tune_gc() -> None:
    """To be called when a process is ready: what there is by now is never searched again.

    Modules, types and functions live as long as the process. A full search through the hundred
    thousand objects that they are holds the loop for a tenth of a second, and each token with it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
