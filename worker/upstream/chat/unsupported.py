"""Finds parts of a request that chat completions cannot express, so that a fallback gets it."""

from __future__ import annotations

from typing import Any, Final

from jobs.support import PARAMETERS, REFUSED, TOOL_CHOICES
from jobs.tools import redefined

from .messages import UnsupportedInput

_REFUSED_PARAMETERS: Final = tuple(name for name, row in PARAMETERS.items() if row.chat is REFUSED)


def check(params: dict[str, Any]) -> None:
    """Raises UnsupportedInput if only the Responses API supports a part of the request."""
    for name in _REFUSED_PARAMETERS:
        if params.get(name):
            raise UnsupportedInput(f"{name} is not supported")
    if (params.get("image") or {}).get("context_compression") == "enabled":
        raise UnsupportedInput("compressed images are not supported")
    choice = params.get("tool_choice")
    kind = choice["type"] if isinstance(choice, dict) else "auto"
    if kind not in TOOL_CHOICES or TOOL_CHOICES[kind].chat is REFUSED:
        raise UnsupportedInput(f"the tool choice {kind} is not supported")
    asked = params.get("input")
    added = [
        tool
        for item in (asked if isinstance(asked, list) else ())
        if item.get("type") == "additional_tools"
        for tool in item["tools"]
    ]
    for _, noun in redefined(("", tool) for tool in (*(params.get("tools") or ()), *added)):
        raise UnsupportedInput(f"two definitions of the {noun} are not supported")
