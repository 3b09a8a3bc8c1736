"""Counts the Holdline objects that a reference cycle kept until the garbage collector ran."""

from __future__ import annotations

import contextlib
import gc
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES = ("jobs.", "runtime.", "server.", "worker.")


class Collected:
    """The objects that the collector found, counted by type."""

    def __init__(self) -> None:
        self.types: Counter[str] = Counter()

    @property
    def ours(self) -> dict[str, int]:
        """The counts of Holdline's types, and of the types that can hold a prompt."""
        return {
            name: count
            for name, count in self.types.items()
            if name.startswith(PACKAGES) or name in ("builtins.str", "builtins.bytes")
        }


@contextlib.contextmanager
def collected() -> Iterator[Collected]:
    """Disables the garbage collector inside the block, then runs it.

    The result contains the types of the objects that it finds.
    """
    found = Collected()
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found.types.update(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
