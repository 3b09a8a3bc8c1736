"""No core: the memory of a process that crashes holds prompts, answers and keys."""

from __future__ import annotations

import contextlib


def disable_core_dumps() -> None:
    """Sees to it that this process and its children write no core, where the system knows them."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
