"""Converts the calls of all client-side tools, and their results, to calls of functions.

Chat completions know only functions. Therefore these items become a `function_call` or a
`function_call_output`, which the module `messages` converts to messages:

    function_call               the same call, with the name of the tool's function
    custom_tool_call            a call with the argument `input`
    local_shell_call,           a call with the members of the item's `action` or `operation`
      shell_call,
      apply_patch_call
    tool_search_call            a call with the item's `arguments`
    custom_tool_call_output     the same output
    local_shell_call_output     the same output
    shell_call_output           the outputs as JSON
    apply_patch_call_output     a line with the status, and the output
    tool_search_output          the names of the functions of the tools that were found

The searches that a provider has executed are left out.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from jobs.log.items import CALL_TYPES, RESULT_TYPES
from worker.upstream.tool_calls import with_call_ids

from .custom_input import PARAMETER
from .messages import UnsupportedInput

if TYPE_CHECKING:
    from .toolbox import Toolbox

Item = dict[str, Any]

KNOWN_TYPES: Final = frozenset({"message", "reasoning"}) | CALL_TYPES | RESULT_TYPES
# The fields of a call that hold provider-specific data.
_PROVIDER_FIELDS: Final = ("extra_content", "reasoning_details")


def as_functions(items: list[Item], toolbox: Toolbox) -> list[Item]:
    """Returns the items, with all other calls and results converted to those of functions.

    Raises: UnsupportedInput.
    """
    return [_converted(item, toolbox) for item in with_call_ids(items) if not _is_search(item)]


def _is_search(item: Item) -> bool:
    """Returns True for a search for tools that a provider has executed, or for its result."""
    return str(item.get("type")).startswith("tool_search") and not item.get("call_id")


def _converted(item: Item, toolbox: Toolbox) -> Item:
    kind = item.get("type")
    try:
        if kind in CALL_TYPES:
            return _call(item, toolbox)
        if kind in RESULT_TYPES and kind != "function_call_output":
            return {
                "type": "function_call_output",
                "call_id": item["call_id"],
                "output": _output(item, toolbox),
            }
    except (KeyError, TypeError, AttributeError):
        raise UnsupportedInput(f"an item of type {kind} has a missing or malformed field") from None
    return item


def _call(item: Item, toolbox: Toolbox) -> Item:
    tool = item["type"].removesuffix("_call").removesuffix("_tool")
    arguments: Any
    match item["type"]:
        case "function_call":
            arguments = item["arguments"]
        case "custom_tool_call":
            arguments = {PARAMETER: item["input"]}
        case "apply_patch_call":
            arguments = item["operation"]
        case "tool_search_call":
            arguments = item["arguments"]
        case "shell_call":
            arguments = item["action"]
        case _:
            arguments = {name: one for name, one in item["action"].items() if name != "type"}
    if isinstance(arguments, dict):
        given = {name: one for name, one in arguments.items() if one is not None}
        arguments = json.dumps(given, ensure_ascii=False)
    kept: Item = {name: item[name] for name in _PROVIDER_FIELDS if name in item}
    return {
        "type": "function_call",
        "call_id": item["call_id"],
        "name": toolbox.function(tool, item.get("name") or "", item.get("namespace") or ""),
        "arguments": arguments,
        **kept,
    }


def _output(item: Item, toolbox: Toolbox) -> Any:
    output = item.get("output")
    match item["type"]:
        case "apply_patch_call_output":
            return "\n".join(filter(None, (item.get("status"), output)))
        case "tool_search_output":
            return json.dumps({"found": toolbox.found_in(item)})
        case "shell_call_output" if not isinstance(output, str):
            return json.dumps(output, ensure_ascii=False)
        case _:
            return output
