"""Reads the tools of a request: their names, and what a chat-completions endpoint can do with them.

A tool is stored as the client sent it: an object with a `type`. A `namespace` contains functions
and custom tools.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

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


def sent_tools(item: dict[str, Any]) -> list[Tool]:
    """Returns the tools that a client adds with an item: its own, or those that it has found."""
    match item:
        case {"type": "additional_tools", "tools": list(tools)}:
            pass
        case {"type": "tool_search_output", "tools": list(tools)}:
            # The tools that a provider has found are those of the provider's own turn.
            if item.get("execution") == "server":
                return []
        case _:
            return []
    return [tool for tool in tools if isinstance(tool, dict)]


class Unusable(NamedTuple):
    """A part of a tool that a chat model cannot use, and why.

    `place` is the place of the part, `what` describes it, and `kind` is the type of the tool.
    """

    place: str
    what: str
    kind: str


def chat_refusals(tools: Iterable[Any], place: str = "tools") -> Iterator[Unusable]:
    """Yields the tools that a chat model cannot use, including those in namespaces.

    `place` is the place of the tools in the request.
    """
    for index, tool in enumerate(tools):
        where = f"{place}[{index}]"
        if (found := _refusal(tool)) is not None:
            yield found._replace(place=f"{where}.{found.place}")
        elif tool["type"] == "namespace":
            yield from chat_refusals(tool.get("tools") or (), f"{where}.tools")


def chat_refuses_tool(tool: Any) -> bool:
    """Returns True for a tool that a chat model cannot use: itself, or all tools in a namespace."""
    if _refusal(tool) is not None:
        return True
    inner = (tool.get("tools") or ()) if tool["type"] == "namespace" else ()
    return len(inner) > 0 and all(map(chat_refuses_tool, inner))


# The members of tools that the worker reads, and their types. The server checks only some of them.
_MEMBERS: Final = {
    "name": str,
    "description": str,
    "format": dict,
    "environment": dict,
    "tools": list,
}
_SYNTAXES: Final = frozenset({"lark", "regex"})


def _refusal(tool: Any) -> Unusable | None:
    """Returns why a chat model cannot use a tool, or None. `place` is a member of the tool."""
    kind = tool.get("type") if isinstance(tool, dict) else None
    row = TOOLS.get(kind) if isinstance(kind, str) else None
    kind = str(kind)[:64]
    if row is None or row.chat is REFUSED:
        # Only a provider can run the tool.
        return Unusable("type", f"this tool of the type '{kind}'", kind)
    for name, shape in _MEMBERS.items():
        if not isinstance(tool.get(name) or shape(), shape):
            return Unusable(name, f"this '{name}' of a tool of the type '{kind}'", kind)
    match tool:
        case {"type": "shell", "environment": {"type": other}} if other != "local":
            what = f"a tool of the type 'shell' with the environment '{str(other)[:64]}'"
            return Unusable("environment.type", what, kind)
        case {"type": "custom", "format": {"type": "grammar"} as form}:
            if form.get("syntax") not in _SYNTAXES:
                what = f"a grammar with the syntax '{str(form.get('syntax'))[:64]}'"
                return Unusable("format.syntax", what, kind)
            if not isinstance(form.get("definition"), str):
                return Unusable("format.definition", "a grammar without a definition", kind)
        case {"type": "custom", "format": {"type": other}} if other != "text":
            what = f"a custom tool with the format '{str(other)[:64]}'"
            return Unusable("format.type", what, kind)
        case {"type": "namespace", "tools": []}:
            return Unusable("tools", "a namespace without tools", kind)
        case _:
            pass
    return None


def redefined(tools: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yields the place and the noun of each tool that differs from another tool of its name.

    `tools` are pairs of a place in the request and a tool. The model could not tell such tools
    apart. A repetition of the same definition does no harm.
    """
    known: dict[tuple[str, str, str], Tool] = {}
    for place, namespace, tool in _flat(tools):
        kind = str(tool.get("type"))
        name = str(tool.get("name")) if kind in _NOUNS else ""
        definition = {
            member: value
            for member, value in tool.items()
            if value is not None and member not in _NOT_DEFINING
        }
        if known.setdefault((kind, namespace, name), definition) != definition:
            noun = f"{_NOUNS[kind]} '{name[:64]}'" if name else f"tool '{kind[:64]}'"
            yield f"{place}.{'name' if name else 'type'}", noun


def _flat(tools: Iterable[tuple[str, Any]], namespace: str = "") -> Iterator[tuple[str, str, Tool]]:
    """Yields the place, the namespace and the definition of each tool that is an object."""
    for place, tool in tools:
        if not isinstance(tool, dict):
            continue
        yield place, namespace, tool
        if tool.get("type") == "namespace" and not namespace:
            inner = tool.get("tools")
            listed = enumerate(inner if isinstance(inner, list) else ())
            placed = ((f"{place}.tools[{index}]", one) for index, one in listed)
            yield from _flat(placed, str(tool.get("name")))


# The members that may differ between two mentions of the same tool. The tools of a namespace are
# compared one by one.
_NOT_DEFINING: Final = frozenset({"defer_loading", "tools"})
_NOUNS: Final = {"function": "function", "custom": "custom tool", "namespace": "namespace"}


def chat_refuses_item(kind: str) -> bool:
    """Returns True for an item type that the messages of a chat completion cannot express."""
    row = ITEMS.get(kind)
    return row is None or row.chat is REFUSED
