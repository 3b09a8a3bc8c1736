"""The cases, a module for each group. Importing a module registers its cases."""

import importlib
from typing import Final

from torture.case import CASES, Case

MODULES: Final = (
    *("streams", "background", "resume", "duplicates", "cancel", "model_ends", "processes"),
    *("races", "inputs", "chains", "sockets", "chat"),
)


def all_cases() -> list[Case]:
    """Returns the cases in the order of their modules."""
    for name in MODULES:
        importlib.import_module(f"{__name__}.{name}")
    return list(CASES.values())
