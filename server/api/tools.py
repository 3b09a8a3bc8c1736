"""The types of a request's tools and tool choice, and their validation.

A tool is kept as the client sent it, because an endpoint may know members that Holdline does not.
The types here are only used to check the members that Holdline reads.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from jobs.tools import named_tools

from .items import FunctionName, Opaque, without_nulls
from .problem import invalid
from .validation import TypeName, check_shape, check_storable

MAX_TOOLS: Final = 128
# The maximum number of tools, including those in namespaces.
MAX_NESTED_TOOLS: Final = 1024

Tool = dict[str, Any]


class FunctionTool(Opaque, tag_field="type", tag="function"):
    """A function that the model may call; `parameters` is a JSON schema."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class CustomFormat(msgspec.Struct):
    """The format of a custom tool's input: any text, or a grammar."""

    type: TypeName
    definition: str | None = None
    syntax: Annotated[str, Meta(max_length=64)] | None = None


class CustomTool(msgspec.Struct, tag_field="type", tag="custom"):
    """A tool whose input is a text."""

    name: FunctionName
    description: str | None = None
    format: CustomFormat | None = None


class NamespaceTool(msgspec.Struct, tag_field="type", tag="namespace"):
    """A group of functions and custom tools."""

    name: FunctionName
    tools: Annotated[list[FunctionTool | CustomTool], Meta(max_length=MAX_NESTED_TOOLS)]
    description: str | None = None


class AnyTool(msgspec.Struct):
    """A tool of another type, which is passed on unread."""

    type: TypeName


class ToolSource(msgspec.Struct):
    """An item that makes more tools available to the model."""

    tools: Annotated[list[dict[str, Any]], Meta(max_length=MAX_NESTED_TOOLS)]


class FunctionChoice(msgspec.Struct, tag_field="type", tag="function"):
    """The function that the model must call, or one of the functions that it may call."""

    name: FunctionName


class CustomChoice(msgspec.Struct, tag_field="type", tag="custom"):
    """The custom tool that the model must call, or one of those that it may call."""

    name: FunctionName


class AllowedTools(msgspec.Struct, tag_field="type", tag="allowed_tools"):
    """The subset of the tools that the model may use for this request."""

    tools: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=MAX_NESTED_TOOLS)]
    mode: Annotated[str, Meta(pattern=r"^(auto|required)\Z")] = "auto"


class AnyChoice(msgspec.Struct):
    """A tool choice of another type, which is passed on unread."""

    type: TypeName


TOOLS: Final = (FunctionTool, CustomTool, NamespaceTool)
_TOOL_SHAPES: Final[dict[str, type[msgspec.Struct]]] = {
    "function": FunctionTool,
    "custom": CustomTool,
    "namespace": NamespaceTool,
}
_CHOICE_SHAPES: Final[dict[str, type[msgspec.Struct]]] = {
    "function": FunctionChoice,
    "custom": CustomChoice,
    "allowed_tools": AllowedTools,
}
# Tools of which a request has at most one, so that a tool choice names them by their type.
_SINGLE: Final = frozenset({"apply_patch", "local_shell", "shell"})


def checked_tools(tools: list[Tool], place: str = "tools") -> list[Tool]:
    """Returns the tools in their stored form. Raises: Problem, which names the tool and member."""
    found = [_checked(tool, f"{place}[{index}]") for index, tool in enumerate(tools)]
    if sum(1 for _ in named_tools(found)) > MAX_NESTED_TOOLS:
        message = f"At most {MAX_NESTED_TOOLS} tools are allowed, including those in namespaces."
        raise invalid(place, message)
    return found


def _checked(tool: Tool, place: str) -> Tool:
    shape = _TOOL_SHAPES.get(type_of(tool), AnyTool)
    if shape is not AnyTool:
        tool = without_nulls(tool)
    check_shape(tool, shape, place)
    check_storable(tool, place)
    if shape is FunctionTool:
        # The standard requires these members in a response's `tools`.
        return {"description": None, "parameters": None, "strict": None, **tool}
    return tool


def checked_choice(choice: Any, tools: list[Tool]) -> Any:
    """Returns the tool choice in its stored form.

    `tools` are all tools that the request makes available. Raises: Problem if the choice needs a
    tool that is not among them.
    """
    if choice == "required" and not tools:
        message = "'tool_choice' is 'required', but 'tools' is empty. Send at least one tool."
        raise invalid("tool_choice", message)
    if not isinstance(choice, dict):
        return choice
    kind = type_of(choice)
    check_shape(choice, _CHOICE_SHAPES.get(kind, AnyChoice), "tool_choice")
    check_storable(choice, "tool_choice")
    known = _names(tools)
    if kind != "allowed_tools":
        _check_entry(choice, known, "tool_choice")
        return choice
    for index, entry in enumerate(choice["tools"]):
        place = f"tool_choice.tools[{index}]"
        check_shape(entry, _CHOICE_SHAPES.get(type_of(entry), AnyChoice), place)
        _check_entry(entry, known, place)
    return {"mode": "auto", **choice}


def _names(tools: list[Tool]) -> set[tuple[str, str]]:
    """Returns the type and the name of each tool; a tool without a name has the name ""."""
    found = {(tool["type"], tool["name"]) for tool in named_tools(tools)}
    for tool in tools:
        name = tool["name"] if tool["type"] == "namespace" else ""
        found.add((tool["type"], name))
    return found


def _check_entry(entry: dict[str, Any], known: set[tuple[str, str]], place: str) -> None:
    """Raises Problem if no tool of the request matches a tool choice."""
    kind = entry["type"]
    if kind in _NOUNS:
        name = entry.get("name")
        if not isinstance(name, str) or (kind, name) not in known:
            named = f"{_NOUNS[kind]} '{str(name)[:64]}'"
            raise invalid(
                f"{place}.name", f"{named} is not in 'tools'. Add it, or name another one."
            )
    elif kind in _SINGLE and (kind, "") not in known:
        message = f"The tool '{kind}' is not in 'tools'. Add it, or choose another tool."
        raise invalid(f"{place}.type", message)


def type_of(value: dict[str, Any]) -> str:
    """Returns the `type` of a tool or tool choice, or "" if it has none."""
    kind = value.get("type")
    return kind if isinstance(kind, str) else ""


_NOUNS: Final = {"function": "Function", "custom": "Custom tool", "namespace": "Namespace"}
