"""Names the tools of a request as functions, which are the only tools of chat completions.

These tools become functions, and the calls of the functions become the calls of the tools again:

    function                            the same function
    custom, local_shell, shell,         a function with the parameters in `tool_shapes`
      apply_patch
    namespace                           its tools, each with the name `namespace__tool`
    tool_search of the client           a function with the parameters of the tool
    tool_search of the provider         nothing, because all tools are sent with each request

Endpoints accept function names of at most 64 letters, digits, `_` and `-`. If the name of a tool
does not conform, or belongs to another tool already, a digest makes the name of its function
unique. Functions outside of namespaces always keep their names.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from jobs.tools import SOURCES, chat_refuses_tool

from .tool_shapes import DESCRIBED

if TYPE_CHECKING:
    from jobs.record import Job

_MAX_NAME: Final = 64
# The types of tool choices that name a client's own tools.
_OWN_CHOICES: Final = frozenset(
    {"allowed_tools", "apply_patch", "custom", "function", "local_shell", "namespace", "shell"}
)
_DIGEST: Final = 8
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]")
_FUNCTION_FIELDS: Final = ("name", "description", "parameters", "strict")


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the model may call.

    `kind` is the type of the tool. `name` and `namespace` are its names for the client, or empty if
    it has none. `function` is the name of its function. `fields` is the tool as the client sent it.
    """

    kind: str
    name: str
    namespace: str
    function: str
    fields: dict[str, Any]

    def described(self, introduction: str = "") -> dict[str, Any]:
        """Returns the tool as a function of a chat completion.

        `introduction` is the description of the tool's namespace.
        """
        fields = self.fields
        told = DESCRIBED[self.kind](fields) if self.kind in DESCRIBED else fields
        given = {name: told[name] for name in _FUNCTION_FIELDS if told.get(name) is not None}
        given["name"] = self.function
        if introduction:
            given["description"] = "\n\n".join(
                filter(None, (introduction, told.get("description")))
            )
        return {"type": "function", "function": given}


class Toolbox:
    """The tools of a request, including those in its items.

    `tools` are all tools that a function can express, and `allowed` are those that `tool_choice`
    allows. `unsupported` are the types of all other tools.
    """

    def __init__(self, params: dict[str, Any], items: Sequence[dict[str, Any]] = ()) -> None:
        self._names: dict[tuple[str, str, str], str] = {}
        self._taken: set[str] = set()
        self.unsupported: list[str] = []
        self._introductions: dict[str, str] = {}
        own, added, searched = list(params.get("tools") or ()), [], []
        for item in items:
            if item.get("type") == "additional_tools":
                added += _in(item)
            elif item.get("type") == "tool_search_output":
                searched += _in(item)
        given = self._keyed(own, self.unsupported)
        # An item can repeat a tool that the request has already, for example in another turn. The
        # newest definition counts.
        if added:
            given = given | self._keyed(added, self.unsupported) | given
        if searched:
            given = given | self._keyed(searched, []) | given
        for kind, name, namespace in given:
            if kind == "function" and not namespace:
                self.function(kind, name)
        self.tools = [Tool(*key, self.function(*key), fields) for key, fields in given.items()]
        self.chosen = params.get("tool_choice")
        self.allowed = self._allowed()
        self._by_function = {tool.function: tool for tool in self.allowed}
        self._functions = {tool.name for tool in self.allowed if tool.kind == "function"}
        # With `tool_search`, an endpoint of the Responses API may find functions on its own. Items
        # can make more functions available, and so can the choice of a provider's tool.
        chosen = self.chosen.get("type") if isinstance(self.chosen, dict) else "function"
        self._finds = (
            any(tool["type"] == "tool_search" for tool in params.get("tools") or ())
            or any(item.get("type") in SOURCES for item in items)
            or chosen not in _OWN_CHOICES
        )

    @classmethod
    def of(cls, job: Job) -> Toolbox:
        """Returns the tools of a job."""
        asked = job.params.get("input")
        return cls(job.params, [*job.context, *(asked if isinstance(asked, list) else ())])

    def get(self, function: str) -> Tool | None:
        """Returns the allowed tool whose function has this name."""
        return self._by_function.get(function)

    def allows(self, call: dict[str, Any]) -> bool:
        """Returns True if a `function_call` of an upstream Responses API is allowed."""
        return call["name"] in self._functions or self._finds

    def function(self, kind: str, name: str = "", namespace: str = "") -> str:
        """Returns the name of a tool's function, even if the request does not have the tool.

        A history may contain calls of such tools.
        """
        key = (kind, namespace, name)
        if key not in self._names:
            self._names[key] = found = self._unique(kind, name, namespace)
            self._taken.add(found)
        return self._names[key]

    def described(self, tools: list[Tool]) -> list[dict[str, Any]]:
        """Returns tools as functions.

        The description of a namespace is a part of the description of its first function.
        """
        introductions = dict(self._introductions)
        return [tool.described(introductions.pop(tool.namespace, "")) for tool in tools]

    def found_in(self, item: dict[str, Any]) -> list[str]:
        """Returns the function names of the tools in an item."""
        return [
            self.function(kind, _name(fields), namespace)
            for kind, namespace, fields in self._found(_in(item), [])
        ]

    def _unique(self, kind: str, name: str, namespace: str) -> str:
        if kind == "function" and not namespace:
            return name
        wanted = _UNSAFE.sub("_", f"{namespace}__{name}" if namespace else name or kind)
        found = wanted
        for number in itertools.count():
            if len(found) <= _MAX_NAME and found not in self._taken:
                break
            told = "\0".join((kind, namespace, name, str(number)))
            digest = hashlib.sha256(told.encode(errors="replace")).hexdigest()[:_DIGEST]
            found = f"{wanted[: _MAX_NAME - _DIGEST - 1]}_{digest}"
        return found

    def _keyed(
        self, tools: Iterable[Any], unsupported: list[str]
    ) -> dict[tuple[str, str, str], dict[str, Any]]:
        """Returns the fields of each tool by its type, name and namespace; see `_found`."""
        found = self._found(tools, unsupported)
        return {(kind, _name(fields), namespace): fields for kind, namespace, fields in found}

    def _found(
        self, tools: Iterable[Any], unsupported: list[str], namespace: str = ""
    ) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yields the type, namespace and fields of each tool that a function can express.

        The types of all other tools are added to `unsupported`.
        """
        for tool in tools:
            if chat_refuses_tool(tool):
                unsupported.append(str(tool.get("type")) if isinstance(tool, dict) else "unknown")
                continue
            match tool:
                case {"type": "namespace", "name": str(name)} if not namespace:
                    self._introductions.setdefault(name, tool.get("description") or "")
                    yield from self._found(_in(tool), unsupported, name)
                case {"type": "tool_search"} if tool.get("execution") != "client":
                    pass
                case {"type": "function" | "custom" as kind, "name": str()}:
                    yield kind, namespace, tool
                case {"type": "local_shell" | "shell" | "apply_patch" | "tool_search" as kind}:
                    yield kind, "", tool
                case _:
                    unsupported.append(tool["type"])

    def _allowed(self) -> list[Tool]:
        """Returns the tools that `tool_choice` allows.

        Other tools are not sent, because some servers do not support `allowed_tools`.
        """
        choice = self.chosen
        if choice == "none":
            return []
        if not isinstance(choice, dict):
            return self.tools
        named = choice["tools"] if choice["type"] == "allowed_tools" else [choice]
        allowed = {tool.function for one in named for tool in self._named(one)}
        return [tool for tool in self.tools if tool.function in allowed]

    def _named(self, choice: dict[str, Any]) -> list[Tool]:
        """Returns the tools that an entry of `tool_choice` names.

        An entry without a namespace names a tool in a namespace only if there is no other.
        """
        kind, name, namespace = (choice.get(field) for field in ("type", "name", "namespace"))
        if kind == "namespace":
            return [tool for tool in self.tools if tool.namespace and tool.namespace == name]
        found = [
            tool
            for tool in self.tools
            if tool.kind == kind and (not tool.name or tool.name == name)
        ]
        exact = [tool for tool in found if tool.namespace == (namespace or "")]
        return found if not exact and not namespace else exact


def _name(tool: dict[str, Any]) -> str:
    return tool["name"] if tool["type"] in ("function", "custom") else ""


def _in(holder: dict[str, Any]) -> list[Any]:
    """Returns the tools in a namespace or in an item."""
    tools = holder.get("tools")
    return tools if isinstance(tools, list) else []
