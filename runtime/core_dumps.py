"""Disables core dumps, because the memory of a process holds prompts, answers and keys."""

from __future__ import annotations

import contextlib


def disable_core_dumps() -> None:
    """Disables core dumps of this process and its children, if the system supports them."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
