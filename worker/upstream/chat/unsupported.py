"""Finds parameters that a chat completion cannot express, so that a fallback gets the request."""

from __future__ import annotations

from typing import Any

from jobs.support import PARAMETERS, REFUSED, TOOL_CHOICES

from .messages import UnsupportedInput


def check(params: dict[str, Any]) -> None:
    """Raises UnsupportedInput if only the Responses API supports a parameter of the request."""
    for name, row in PARAMETERS.items():
        if row.chat is REFUSED and params.get(name):
            raise UnsupportedInput(f"{name} is not supported")
    if (params.get("image") or {}).get("context_compression") == "enabled":
        raise UnsupportedInput("compressed images are not supported")
    choice = params.get("tool_choice")
    kind = choice["type"] if isinstance(choice, dict) else "auto"
    if kind not in TOOL_CHOICES or TOOL_CHOICES[kind].chat is REFUSED:
        raise UnsupportedInput(f"the tool choice {kind} is not supported")
