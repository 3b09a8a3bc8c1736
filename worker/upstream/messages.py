"""The standard's items -> the messages of a chat completion.

message               -> a message: a string, or parts where it shows more than text
function_call         -> a call of the assistant's message before it
function_call_output  -> a message of the role `tool`
reasoning             -> nothing: a chat completion does not take it back
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

Message = dict[str, Any]
Item = dict[str, Any]

_ROLES: Final = {
    "system": "system",
    # `developer` is the newer word for the same rank; most compatible servers refuse it.
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
# type of a part -> the field that holds its text
_TEXT_PARTS: Final = {
    "input_text": "text",
    "output_text": "text",
    "text": "text",
    "refusal": "refusal",
}


class UnsupportedInput(Exception):
    """An item that a chat completion cannot show to a model; the message names its type only."""


def messages(items: Iterable[Item]) -> list[Message]:
    """The messages, in order.

    Raises: UnsupportedInput.
    """
    found: list[Message] = []
    for item in items:
        match item.get("type", "message"):
            case "message" if item.get("role") in _ROLES:
                message = _message(item)
                # What was cut before its first word says nothing, and some servers refuse it.
                if message["content"] or message["role"] != "assistant":
                    found.append(message)
            case "function_call":
                _callers(found).append(_call(item))
            case "function_call_output":
                found.append(_result(item))
            case "reasoning":
                pass
            case kind:
                raise UnsupportedInput(f"item of type {kind}")
    return found


def _callers(found: list[Message]) -> list[dict[str, Any]]:
    """The calls of the assistant's message that is last; there is one from now on."""
    if not found or found[-1]["role"] != "assistant":
        found.append({"role": "assistant", "content": None})
    calls: list[dict[str, Any]] = found[-1].setdefault("tool_calls", [])
    return calls


def _call(item: Item) -> dict[str, Any]:
    function = {"name": item["name"], "arguments": item["arguments"]}
    return {"id": item["call_id"], "type": "function", "function": function}


def _result(item: Item) -> Message:
    output = item["output"]
    text = output if isinstance(output, str) else "".join(map(_text, output))
    return {"role": "tool", "tool_call_id": item["call_id"], "content": text}


def _message(item: Item) -> Message:
    content = item.get("content") or ""
    if not isinstance(content, str):
        # One string and not a list of parts: the form that every compatible server takes.
        only_text = all(part.get("type") in _TEXT_PARTS for part in content)
        content = "".join(map(_text, content)) if only_text else list(map(_part, content))
    return {"role": _ROLES[item["role"]], "content": content}


def _text(part: dict[str, Any]) -> str:
    kind = part.get("type")
    if kind not in _TEXT_PARTS:
        raise UnsupportedInput(f"content of type {kind}")
    text: str = part[_TEXT_PARTS[kind]]
    return text


def _part(part: dict[str, Any]) -> dict[str, Any]:
    match part.get("type"):
        case "input_image":
            image = {"url": part["image_url"], "detail": part.get("detail") or "auto"}
            return {"type": "image_url", "image_url": image}
        case "input_file":
            file = {name: part[name] for name in ("filename", "file_data") if part.get(name)}
            return {"type": "file", "file": file}
        case _:
            return {"type": "text", "text": _text(part)}
