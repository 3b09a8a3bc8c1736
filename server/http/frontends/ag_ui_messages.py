"""Translates the messages and tools of AG-UI into those of a chat body.

The messages of AG-UI are those of chat completions with other spellings, so `chat_messages` does
the rest. Reasoning and activities are what a client shows, and are not sent to a model.
"""

from __future__ import annotations

from typing import Any, Final

from server.api.problem import invalid
from server.http.shapes import listing, mapping, missing, other_type, string

Json = dict[str, Any]

_SHOWN: Final = frozenset({"reasoning", "activity"})
# The messages that an answer consists of.
_ANSWER: Final = _SHOWN | {"assistant"}


def asked(messages: Any) -> list[Json]:
    """Returns the messages up to the last one that is not part of an answer. Raises: Problem.

    A client that repeats a run, because its connection was lost, also sends the part of the answer
    that it has received.
    """
    if messages is None:
        raise missing("messages")
    found = [
        mapping(message, f"messages[{index}]")
        for index, message in enumerate(listing(messages, "messages"))
    ]
    while found and _has_role(found[-1], _ANSWER):
        found.pop()
    if not found:
        raise invalid("messages", "'messages' must contain a message that is not an answer.")
    return found


def _has_role(message: Json, roles: frozenset[str]) -> bool:
    """Returns True if a message has one of these roles. Its role may be any JSON value."""
    role = message.get("role")
    return isinstance(role, str) and role in roles


def without_answer(messages: list[Json], whole: list[Json]) -> list[Json]:
    """Returns the messages of a client's chat without the answer to `messages`.

    A snapshot of messages removes the client's messages that it lacks, except for reasoning. So
    the reasoning of the answer stays, without its text.
    """
    shown = [message for message in whole[len(messages) :] if message.get("role") == "reasoning"]
    return [*messages, *({**message, "content": ""} for message in shown)]


def chat_messages(messages: list[Json], context: Any) -> tuple[list[Json], list[int]]:
    """Returns the messages of a chat body, and the index of the AG-UI message of each.

    `context` is information about the page, which becomes a system message with the index -1.
    Raises: Problem.
    """
    described = [
        f"{string(each.get('description'), place)}: {string(each.get('value'), place)}"
        for index, entry in enumerate(listing([] if context is None else context, "context"))
        for place in (f"context[{index}]",)
        for each in (mapping(entry, place),)
    ]
    found: list[Json] = []
    indices: list[int] = []
    if described:
        found.append({"role": "system", "content": "\n".join(["Context of the page:", *described])})
        indices.append(-1)
    for index, message in enumerate(messages):
        if not _has_role(message, _SHOWN):
            found.append(_chat_message(message, f"messages[{index}]"))
            indices.append(index)
    return found, indices


def _chat_message(message: Json, place: str) -> Json:
    content = message.get("content")
    if isinstance(content, list):
        content = [
            _part(mapping(part, f"{place}.content[{index}]"), f"{place}.content[{index}]")
            for index, part in enumerate(content)
        ]
    translated = {"role": message.get("role"), "content": content}
    match message.get("role"):
        case "assistant" if message.get("toolCalls"):
            translated["tool_calls"] = [
                {name: mapping(call, place).get(name) for name in ("id", "type", "function")}
                for call in listing(message["toolCalls"], f"{place}.toolCalls")
            ]
        case "tool":
            translated["tool_call_id"] = message.get("toolCallId")
            if message.get("error"):
                translated["content"] = string(message["error"], f"{place}.error")
        case _:
            pass
    return translated


def _part(part: Json, place: str) -> Json:
    match part.get("type"):
        case "text":
            return {"type": "text", "text": part.get("text")}
        case "image" | "document" as kind:
            source = mapping(part.get("source"), f"{place}.source")
            value = string(source.get("value"), f"{place}.source.value")
            match source.get("type"):
                case "data":
                    media = string(source.get("mimeType"), f"{place}.source.mimeType")
                    url = f"data:{media};base64,{value}"
                case "url" if kind == "image":
                    url = value
                case _:
                    raise other_type(f"{place}.source", ("data",))
            if kind == "image":
                return {"type": "image_url", "image_url": {"url": url}}
            return {"type": "file", "file": {"file_data": url, "filename": "document"}}
        case _:
            raise other_type(place, ("text", "image", "document"))


def tools(given: Any) -> list[Json]:
    """Returns the tools of a response. Raises: Problem."""
    found = []
    for index, entry in enumerate(listing([] if given is None else given, "tools")):
        tool = mapping(entry, f"tools[{index}]")
        names = ("name", "description", "parameters")
        members = {name: tool[name] for name in names if tool.get(name) is not None}
        found.append({"type": "function", **members})
    return found
