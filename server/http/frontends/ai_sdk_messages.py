"""Translates the messages of the AI SDK's `useChat` into the items of a response's input.

A message has parts: text, files, reasoning, and calls of tools with their results. Parts that only
a page shows, such as sources and data, are left out, as `convertToModelMessages` of the AI SDK
does. So are calls without a result, which `useChat` keeps when an answer was stopped.
"""

from __future__ import annotations

import json
from typing import Any

from server.api.problem import Problem, invalid
from server.http.shapes import listing, mapping, missing, string

Json = dict[str, Any]

_DENIED = "The user denied the execution of the tool."


def items(messages: Any) -> list[tuple[Json, str]]:
    """Translates messages into items, each with its place in the body. Raises: Problem."""
    if messages is None:
        raise missing("messages")
    if not listing(messages, "messages"):
        raise invalid("messages", "'messages' must contain at least one message.")
    found: list[tuple[Json, str]] = []
    for index, given in enumerate(messages):
        place = f"messages[{index}]"
        message = mapping(given, place)
        parts = [
            (mapping(part, f"{place}.parts[{number}]"), f"{place}.parts[{number}]")
            for number, part in enumerate(listing(message.get("parts"), f"{place}.parts"))
        ]
        match message.get("role"):
            case "user" | "system" as role:
                content = [_content(part, where) for part, where in parts if _is_content(part)]
                found.append(({"type": "message", "role": role, "content": content}, place))
            case "assistant":
                for part, where in parts:
                    found += [(item, where) for item in _of_assistant(part, where)]
            case None:
                raise missing(f"{place}.role")
            case _:
                raise invalid(f"{place}.role", f"'{place}.role' must be system, user or assistant.")
    return found


def extended(messages: Any, message_id: Any) -> str | None:
    """Returns the id of the message that the answer extends, or None for a new message.

    `useChat` extends a message of the assistant if a tool's result was added to it.
    """
    named = [message for message in messages if message.get("id") == message_id]
    message = (named or messages)[-1]
    id_ = message.get("id")
    return id_ if message["role"] == "assistant" and isinstance(id_, str) and id_ else None


def _is_content(part: Json) -> bool:
    return part.get("type") in ("text", "file")


def _content(part: Json, place: str) -> Json:
    if part["type"] == "text":
        return {"type": "input_text", "text": part.get("text")}
    url = string(part.get("url"), f"{place}.url")
    if string(part.get("mediaType"), f"{place}.mediaType").startswith("image/"):
        return {"type": "input_image", "image_url": url}
    name = {"filename": part["filename"]} if part.get("filename") else {}
    field = "file_data" if url.startswith("data:") else "file_url"
    return {"type": "input_file", field: url, **name}


def _of_assistant(part: Json, place: str) -> list[Json]:
    kind = string(part.get("type"), f"{place}.type")
    if kind == "text":
        text = {"type": "output_text", "text": part.get("text")}
        return [{"type": "message", "role": "assistant", "content": [text]}]
    name = part.get("toolName") if kind == "dynamic-tool" else kind.removeprefix("tool-")
    if name == kind or part.get("providerExecuted"):
        return []
    match part.get("state"):
        case "output-available":
            output = _text(part.get("output"))
        case "output-error":
            output = string(part.get("errorText"), f"{place}.errorText")
        case "output-denied":
            output = _DENIED
        case _:
            return []
    id_ = string(part.get("toolCallId"), f"{place}.toolCallId")
    arguments = _text(part.get("input"))
    return [
        {"type": "function_call", "call_id": id_, "name": name, "arguments": arguments},
        {"type": "function_call_output", "call_id": id_, "output": output},
    ]


def _text(value: Any) -> str:
    """Returns the value of a tool's input or output as the text that the model reads."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def named(problem: Problem, places: list[str]) -> Problem:
    """Replaces the name of an input item in a problem by the item's place in `messages`."""
    old = problem.param or ""
    if not old.startswith("input"):
        return problem
    new = "messages"
    if old.startswith("input["):
        number, _, rest = old.removeprefix("input[").partition("]")
        new = places[int(number)] + rest
    problem.param, problem.message = new, problem.message.replace(f"'{old}'", f"'{new}'")
    return problem
