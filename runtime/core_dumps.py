"""Disables core dumps, which would write prompts, answers and keys from memory to disk."""

from __future__ import annotations

import contextlib


def disable_core_dumps() -> None:
    """Disables core dumps of this process and its children, on systems that can limit them."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
