"""Reads the tools of a request: their names, and what a chat-completions endpoint can do with them.

A tool is stored as the client sent it: an object with a `type`. A `namespace` contains functions
and custom tools.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .support import ITEMS, REFUSED, TOOLS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Tool = dict[str, Any]

# The types of the tools that the model calls by a name.
NAMED: Final = frozenset({"function", "custom"})
# The members of a provider's tools that contain credentials for other services.
_CREDENTIALS: Final = frozenset({"authorization", "domain_secrets", "headers"})
# The types of the items that make more tools available to the model.
SOURCES: Final = frozenset({"additional_tools", "tool_search_output"})


def named_tools(tools: Iterable[Any]) -> Iterator[Tool]:
    """Yields the functions and custom tools, including those in namespaces."""
    for tool in tools:
        if not isinstance(tool, dict):
            continue
        if tool.get("type") == "namespace":
            inner = tool.get("tools")
            yield from named_tools(inner if isinstance(inner, list) else ())
        elif tool.get("type") in NAMED and isinstance(tool.get("name"), str):
            yield tool


def shown_tools(tools: list[Tool]) -> list[Tool]:
    """Returns the tools as a response repeats them: without the credentials for other services.

    Only the provider needs the credentials, but all followers of the response receive its tools.
    """
    own = NAMED | {"namespace"}
    return [tool if tool.get("type") in own else _without_credentials(tool) for tool in tools]


def _without_credentials(value: Any) -> Any:
    match value:
        case dict():
            return {
                name: _without_credentials(inner)
                for name, inner in value.items()
                if name not in _CREDENTIALS or inner is None
            }
        case list():
            return [_without_credentials(inner) for inner in value]
        case _:
            return value


def additional_tools(item: dict[str, Any]) -> list[Tool]:
    """Returns the tools that a developer adds with an item of the type `additional_tools`."""
    tools = item.get("tools") if item.get("type") == "additional_tools" else None
    return [tool for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []


def chat_refuses_tool(tool: Tool) -> bool:
    """Returns True for a tool that a chat model cannot use, because only a provider can run it."""
    match tool:
        case {"type": "shell", "environment": {"type": str(kind)}}:
            return kind != "local"
        case _:
            row = TOOLS.get(str(tool.get("type")))
            return row is None or row.chat is REFUSED


def chat_refuses_item(kind: str) -> bool:
    """Returns True for an item type that the messages of a chat completion cannot express."""
    row = ITEMS.get(kind)
    return row is None or row.chat is REFUSED
