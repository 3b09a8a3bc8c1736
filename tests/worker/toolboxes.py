"""Toolboxes for tests."""

from __future__ import annotations

from worker.upstream.chat.toolbox import Toolbox


def toolbox_of(*functions: str) -> Toolbox:
    """Returns a toolbox with functions of these names."""
    return Toolbox({"tools": [{"type": "function", "name": name} for name in functions]})
