"""Translates the messages of a chat body into the items of a response's input."""

from __future__ import annotations

from typing import Any, Final

from server.api.problem import Problem, invalid

from .shapes import listing, mapping, missing, other_type, string, unsupported

Json = dict[str, Any]


def items(messages: Any) -> list[tuple[Json, str]]:
    """Translates chat messages into items, each with its place in the body. Raises: Problem."""
    if messages is None:
        raise missing("messages")
    if not listing(messages, "messages"):
        raise invalid("messages", "'messages' must contain at least one message.")
    found: list[tuple[Json, str]] = []
    calls: set[str] = set()
    for index, message in enumerate(messages):
        place = f"messages[{index}]"
        for item, where in _items_of(mapping(message, place), place):
            match item["type"]:
                case "function_call":
                    calls.add(item["call_id"])
                case "function_call_output" if item["call_id"] not in calls:
                    raise _no_call(item["call_id"], f"{place}.tool_call_id")
            found.append((item, where))
    return found


def _items_of(message: Json, place: str) -> list[tuple[Json, str]]:
    match message.get("role"):
        case "system" | "developer" | "user" as role:
            _only(message, place, {"role", "content", "name"})
            return [(_message(role, _parts(message.get("content"), f"{place}.content")), place)]
        case "assistant":
            return _assistant(message, place)
        case "tool":
            _only(message, place, {"role", "content", "tool_call_id", "name"})
            call = string(message.get("tool_call_id"), f"{place}.tool_call_id")
            content = message.get("content")
            output = "" if content is None else _parts(content, f"{place}.content", _OF_TOOL)
            return [({"type": "function_call_output", "call_id": call, "output": output}, place)]
        case None:
            raise missing(f"{place}.role")
        case _:
            known = "system, developer, user, assistant or tool"
            raise invalid(f"{place}.role", f"'{place}.role' must be {known}.")


# The fields of a chat message in which providers send reasoning and expect it back.
_REASONING: Final = ("reasoning_content", "reasoning")
# Fields that client libraries or other providers add to the model's messages, and that clients send
# back. These fields are ignored, because each repeats another field's content or matters only to
# the program that added it.
_ECHOED: Final = frozenset(
    {
        "annotations",
        "context",
        "extra_content",
        "images",
        "parsed",
        "provider_specific_fields",
        "reasoning_details",
        "thinking_blocks",
    }
)


def _assistant(message: Json, place: str) -> list[tuple[Json, str]]:
    _only(
        message, place, {"role", "content", "name", "refusal", "tool_calls", *_REASONING, *_ECHOED}
    )
    items: list[tuple[Json, str]] = []
    field = next((name for name in _REASONING if message.get(name)), None)
    if field is not None:
        parts = [{"type": "reasoning_text", "text": string(message[field], f"{place}.{field}")}]
        marked = {"holdline_field": field, **_maker(message.get("tool_calls"))}
        items.append(({"type": "reasoning", "summary": [], "content": parts, **marked}, place))
    content = message.get("content")
    parts = [] if content is None else _parts(content, f"{place}.content", _OF_ASSISTANT)
    if isinstance(parts, str):
        parts = [{"type": "output_text", "text": parts}] if parts else []
    if refusal := message.get("refusal"):
        parts = [*parts, {"type": "refusal", "refusal": string(refusal, f"{place}.refusal")}]
    if parts:
        items.append((_message("assistant", parts), place))
    calls = message.get("tool_calls")
    for index, call in enumerate([] if calls is None else listing(calls, f"{place}.tool_calls")):
        where = f"{place}.tool_calls[{index}]"
        items.append((_call(call, where), where))
    return items or [(_message("assistant", ""), place)]


def _maker(calls: Any) -> Json:
    """Returns the model that wrote the message, if one of the message's calls names the model."""
    for call in calls if isinstance(calls, list) else ():
        extra = call.get("extra_content") if isinstance(call, dict) else None
        if isinstance(extra, dict) and isinstance(extra.get("holdline_model"), str):
            return {"holdline_model": extra["holdline_model"]}
    return {}


def _call(call: Any, place: str) -> Json:
    call = mapping(call, place)
    if (call.get("type") or "function") != "function":
        raise other_type(place, ("function",))
    function = mapping(call.get("function"), f"{place}.function")
    arguments = function.get("arguments")
    given = {"name": function.get("name"), "arguments": "" if arguments is None else arguments}
    # The provider's own data, which the provider expects back.
    extra = call.get("extra_content")
    own = {} if extra is None else {"extra_content": extra}
    id_ = string(call.get("id"), f"{place}.id")
    return {"type": "function_call", "call_id": id_, **given, **own}


# The part types that a message may contain, by the message's role.
_OF_TOOL: Final = ("text",)
_OF_ASSISTANT: Final = ("text", "refusal")
_OF_OTHERS: Final = ("text", "image_url", "file")


def _parts(content: Any, place: str, types: tuple[str, ...] = _OF_OTHERS) -> Any:
    if isinstance(content, str):
        return content
    if content is None:
        raise missing(place)
    return [
        _part(mapping(part, f"{place}[{index}]"), f"{place}[{index}]", types)
        for index, part in enumerate(listing(content, place))
    ]


def _part(part: Json, place: str, types: tuple[str, ...]) -> Json:
    kind = part.get("type")
    if kind is None:
        raise missing(f"{place}.type")
    if kind not in types:
        raise other_type(place, types)
    match kind:
        case "text":
            kind = "output_text" if types is _OF_ASSISTANT else "input_text"
            return {"type": kind, "text": part.get("text")}
        case "refusal":
            return {"type": "refusal", "refusal": part.get("refusal")}
        case "image_url":
            image = mapping(part.get("image_url"), f"{place}.image_url")
            detail = {} if image.get("detail") is None else {"detail": image["detail"]}
            return {"type": "input_image", "image_url": image.get("url"), **detail}
        case _:
            file = mapping(part.get("file"), f"{place}.file")
            if file.get("file_id") is not None:
                raise unsupported(f"{place}.file.file_id")
            given = {name: file[name] for name in ("file_data", "filename") if file.get(name)}
            return {"type": "input_file", **given}


def _message(role: str, content: Any) -> Json:
    return {"type": "message", "role": role, "content": content}


def _only(message: Json, place: str, names: set[str]) -> None:
    for name, value in message.items():
        if name not in names and value is not None:
            raise unsupported(f"{place}.{name[:64]}")


def _no_call(call_id: str, place: str) -> Problem:
    message = f"No earlier tool call has the id '{call_id[:64]}' of '{place}'. Send the call too."
    return invalid(place, message)
