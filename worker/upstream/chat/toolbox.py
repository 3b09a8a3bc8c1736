"""Names the tools of a request as functions, which are the only tools of chat completions.

These tools become functions, and the calls of the functions become the calls of the tools again:

    function                            the same function
    custom, local_shell, shell,         a function with the parameters in `tool_shapes`
      apply_patch
    namespace                           its tools, each with the name `namespace__tool`
    tool_search                         nothing, because all tools are sent with each request

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
from typing import Any, Final

from jobs.tools import SOURCES

from .tool_shapes import DESCRIBED

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
    """The tools of a request.

    `tools` are all tools that a function can express, and `allowed` are those that `tool_choice`
    allows. `unsupported` are the types of all other tools.
    """

    def __init__(self, params: dict[str, Any], context: Sequence[dict[str, Any]] = ()) -> None:
        self._names: dict[tuple[str, str, str], str] = {}
        self._taken: set[str] = set()
        self.unsupported: list[str] = []
        self._introductions: dict[str, str] = {}
        given = list(self._found(params.get("tools") or ()))
        for kind, namespace, fields in given:
            if kind == "function" and not namespace:
                self.function(kind, fields["name"])
        self.tools = [
            Tool(kind, name, namespace, self.function(kind, name, namespace), fields)
            for kind, namespace, fields in given
            for name in [fields.get("name") or ""]
        ]
        self.chosen = params.get("tool_choice")
        self.allowed = self._allowed()
        self._by_function = {tool.function: tool for tool in self.allowed}
        self._functions = {tool.name for tool in self.allowed if tool.kind == "function"}
        # With `tool_search`, an endpoint of the Responses API may find functions on its own. Items
        # can make more functions available, and so can the choice of a provider's tool.
        items = [*context, *(params.get("input") or ())]
        chosen = self.chosen.get("type") if isinstance(self.chosen, dict) else "function"
        self._finds = (
            any(tool["type"] == "tool_search" for tool in params.get("tools") or ())
            or any(isinstance(item, dict) and item.get("type") in SOURCES for item in items)
            or chosen not in _OWN_CHOICES
        )

    def get(self, function: str) -> Tool | None:
        """Returns the allowed tool whose function has this name."""
        return self._by_function.get(function)

    def allows(self, call: dict[str, Any]) -> bool:
        """Returns True if a `function_call` of an upstream Responses API is allowed."""
        return call["name"] in self._functions or self._finds

    def function(self, kind: str, name: str = "", namespace: str = "") -> str:
        """Returns the name of a tool's function, also of a tool that the request does not have.

        The calls in a history can be calls of such tools.
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

    def _found(
        self, tools: Iterable[dict[str, Any]], namespace: str = ""
    ) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yields the type, namespace and fields of each tool that a function can express."""
        for tool in tools:
            match tool["type"]:
                case "namespace" if not namespace:
                    self._introductions[tool["name"]] = tool.get("description") or ""
                    yield from self._found(tool.get("tools") or [], tool["name"])
                case "tool_search" if tool.get("execution") != "client":
                    pass
                case "shell" if not _is_local(tool):
                    self.unsupported.append("shell in a container")
                case kind if kind == "function" or kind in DESCRIBED:
                    yield kind, namespace, tool
                case kind:
                    self.unsupported.append(kind)

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


def _is_local(shell: dict[str, Any]) -> bool:
    """Returns True if the client executes the commands of a `shell` tool."""
    environment = shell.get("environment") or {}
    return bool(environment.get("type", "local") == "local")
