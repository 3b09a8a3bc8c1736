"""Describes the standard's client-side tools as functions, and reads the arguments of their calls.

The functions have these parameters:

    custom        the string `input`; see `custom_input`
    local_shell   the members of the `action` of a `local_shell_call`
    shell         the members of the `action` of a `shell_call`
    apply_patch   the members of the `operation` of an `apply_patch_call`
    tool_search   the parameters that the client states
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from worker.upstream.deltas import Malformed
from worker.upstream.provider_data import storable

from .custom_input import PARAMETER

_Count = Annotated[int, Meta(ge=0, le=2**53)]


class _LocalShell(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    command: list[str]
    env: dict[str, str] | None = None
    timeout_ms: _Count | None = None
    user: str | None = None
    working_directory: str | None = None


class _Shell(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    commands: list[str]
    timeout_ms: _Count | None = None
    max_output_length: _Count | None = None


class _CreateFile(msgspec.Struct, tag_field="type", tag="create_file", forbid_unknown_fields=True):
    path: str
    diff: str


class _UpdateFile(msgspec.Struct, tag_field="type", tag="update_file", forbid_unknown_fields=True):
    path: str
    diff: str


class _DeleteFile(msgspec.Struct, tag_field="type", tag="delete_file", forbid_unknown_fields=True):
    path: str
    diff: Literal[""] | None = None


_SHAPES: Final[dict[str, Any]] = {
    "local_shell": _LocalShell,
    "shell": _Shell,
    "apply_patch": _CreateFile | _UpdateFile | _DeleteFile,
    "tool_search": dict[str, Any],
}
# The tools whose calls are reported only when their arguments are complete.
WHOLE: Final = frozenset(_SHAPES)


def action_of(kind: str, arguments: str) -> dict[str, Any]:
    """Returns the `action`, `operation` or `arguments` of a call from complete arguments.

    `kind` is the type of the tool.

    Raises: Malformed if the arguments do not have the tool's parameters.
    """
    try:
        given = storable(json.loads(arguments, strict=False))
        read = msgspec.convert(given, _SHAPES[kind])
    except (ValueError, RecursionError):
        raise Malformed(f"the arguments of {kind} do not have its parameters") from None
    found: dict[str, Any] = msgspec.to_builtins(read)
    match kind:
        case "local_shell":
            return {"type": "exec", **found, "env": found.get("env") or {}}
        case "apply_patch" if found["type"] == "delete_file":
            return {name: found[name] for name in ("type", "path")}
        case _:
            return found


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


def _custom(tool: dict[str, Any]) -> dict[str, Any]:
    form = tool.get("format") or {}
    told = [tool.get("description") or "", "The parameter `input` is the whole input of the tool."]
    if form.get("type") == "grammar":
        syntax = "regular expression" if form.get("syntax") == "regex" else "Lark grammar"
        told.append(f"The input must match this {syntax}:\n{form.get('definition')}")
    return {
        "description": "\n\n".join(filter(None, told)),
        "parameters": _object(
            [PARAMETER], **{PARAMETER: _text("The input of the tool as plain text.")}
        ),
    }


_TIMEOUT: Final = {"type": "integer", "description": "The time limit in milliseconds."}


def _local_shell(_tool: dict[str, Any]) -> dict[str, Any]:
    strings = {"type": "string"}
    return {
        "description": "Runs a command on the user's computer, and returns its output.",
        "parameters": _object(
            ["command"],
            command={
                "type": "array",
                "items": strings,
                "description": "The program and its arguments, for example "
                '["bash", "-lc", "ls | head"].',
            },
            env={
                "type": "object",
                "additionalProperties": strings,
                "description": "Additional environment variables.",
            },
            timeout_ms=_TIMEOUT,
            user=_text("The user that runs the command."),
            working_directory=_text("The directory in which the command runs."),
        ),
    }


def _shell(tool: dict[str, Any]) -> dict[str, Any]:
    told = ["Runs shell commands in order, and returns the output and the exit code of each."]
    told += [
        f"Skill {skill.get('name')}, in {skill.get('path')}: {skill.get('description')}"
        for skill in (tool.get("environment") or {}).get("skills") or ()
        if isinstance(skill, dict)
    ]
    return {
        "description": "\n".join(told),
        "parameters": _object(
            ["commands"],
            commands={
                "type": "array",
                "items": {"type": "string"},
                "description": "The shell commands.",
            },
            timeout_ms=_TIMEOUT,
            max_output_length={
                "type": "integer",
                "description": "The maximum number of characters of output to return.",
            },
        ),
    }


def _apply_patch(_tool: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": "Creates, updates or deletes one file.",
        "parameters": _object(
            ["type", "path"],
            type={"type": "string", "enum": ["create_file", "update_file", "delete_file"]},
            path=_text("The path of the file, relative to the root of the workspace."),
            diff=_text(
                "The change, which is required unless the file is deleted. To create a file, send "
                "each of its lines with a leading `+`. To update a file, send one or more hunks. "
                "Each hunk begins with a line `@@`, which can name the enclosing function or class "
                "after a space. Its other lines begin with a space for unchanged lines, with `-` "
                "for removed lines, or with `+` for added lines."
            ),
        ),
    }


def _tool_search(tool: dict[str, Any]) -> dict[str, Any]:
    given = tool.get("parameters")
    query = _object(["query"], query=_text("A description of the tools."))
    return {
        "description": tool.get("description") or "Searches for tools, and makes them available.",
        "parameters": given if isinstance(given, dict) else query,
    }


DESCRIBED: Final[dict[str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "custom": _custom,
    "local_shell": _local_shell,
    "shell": _shell,
    "apply_patch": _apply_patch,
    "tool_search": _tool_search,
}
