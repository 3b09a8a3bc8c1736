"""Builds the simulated model's tool call: the first tool, with arguments for its schema."""

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

DEEPEST = 8


def called_tool(tools: Any, messages: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Returns a tool call in the format of a chat message.

    Returns None if the request offers no tool, or if the last message is the result of a call.
    """
    if messages and messages[-1].get("role") == "tool":
        return None
    offered = [tool for tool in tools or [] if isinstance(tool, dict) and "function" in tool]
    if not offered:
        return None
    function = offered[0]["function"]
    arguments = example(function.get("parameters") or {"type": "object"})
    return {
        "id": f"call_{uuid.uuid4().hex[:24]}",
        "type": "function",
        "function": {"name": function.get("name", ""), "arguments": json.dumps(arguments)},
    }


def example(schema: Any, depth: int = 0) -> Any:
    """Returns a simple value for a JSON schema, based only on the schema's types and choices."""
    if not isinstance(schema, dict) or depth > DEEPEST:
        return None
    for keyword in ("const", "default"):
        if keyword in schema:
            return schema[keyword]
    if schema.get("enum"):
        return schema["enum"][0]
    for choice in ("anyOf", "oneOf"):
        if schema.get(choice):
            return example(schema[choice][0], depth + 1)
    kind = schema.get("type")
    match kind[0] if isinstance(kind, list) and kind else kind:
        case "object":
            properties = schema.get("properties") or {}
            return {name: example(value, depth + 1) for name, value in properties.items()}
        case "array":
            return [example(schema["items"], depth + 1)] if "items" in schema else []
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return "demo"
