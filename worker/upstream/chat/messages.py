"""Converts items of the Responses API to the messages of a chat completion.

    message               a message whose content is a string; a user message with images or files
                          has a list of parts
    function_call         a call in the assistant message before it
    function_call_output  a message with the role `tool`
    reasoning             the field `reasoning_content` or `reasoning`, from which it came, in the
                          assistant message with the calls that follow; other reasoning is dropped

Items may have any order, but a chat completion accepts only this one: an assistant message with
calls, then one result for each call, then any other message. Therefore:

- Text or a further call that follows a call is merged into the message of that call.
- A message between a call and its result is moved behind the results.
- Images and files of a result go into a user message behind the results. Those of a system or
  assistant message go into a user message behind that message.
- A call without a result gets the result `NOT_EXECUTED`. If its arguments are truncated, the call
  is left out.
- A result without a call becomes a user message.

The `extra_content` that a provider put into a call is sent back with the call, because some
providers refuse the call otherwise. So are the `reasoning_details` of the message. `provider_data`
selects the data of the model that is called.

Texts of the same role keep their order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from worker.upstream.tool_calls import NOT_EXECUTED, matched, object_of

if TYPE_CHECKING:
    from collections.abc import Iterable

Message = dict[str, Any]
Item = dict[str, Any]

KNOWN_TYPES: Final = frozenset({"message", "function_call", "function_call_output", "reasoning"})
_RESULT: Final = "Result of "  # begins a user message with a result or with parts of one
_ROLES: Final = {
    "system": "system",
    # `developer` is the newer name for the same role; most compatible servers refuse it.
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
# Maps the type of a part to the field with its text.
_TEXT_PARTS: Final = {
    "input_text": "text",
    "output_text": "text",
    "text": "text",
    "refusal": "refusal",
}
_SHOWN_PARTS: Final = frozenset({"input_image", "input_file"})


class UnsupportedInput(Exception):
    """The endpoint's API cannot express a part of the request; the message names only its type."""


def messages(items: Iterable[Item]) -> list[Message]:
    """Returns the messages in the order that a chat completion requires.

    Raises: UnsupportedInput.
    """
    history = _History(list(items))
    for position, item in enumerate(history.items):
        match item.get("type", "message"):
            case "message" if item.get("role") in _ROLES:
                history.message(item)
            case "function_call":
                history.call(position)
            case "function_call_output":
                history.result(position)
            case "reasoning":
                history.reasoning(item)
            case kind:
                raise UnsupportedInput(f"items of type {kind} are not supported")
    history.close()
    return history.found


def holds_result(message: Message) -> bool:
    """Returns True for a user message with the result of a call or with parts of one."""
    content = message.get("content")
    if isinstance(content, list):
        content = content[0].get("text") if content else None
    return message.get("role") == "user" and str(content or "").startswith(_RESULT)


@dataclass(slots=True)
class _Group:
    """An assistant message with calls, and the messages that follow it.

    `said` are the texts that are joined to the content of the message. `ids` maps the position of
    each call's item to the id that is sent. `waiting` are the positions of the calls whose results
    have not been reached yet; the group stays open until it is empty. `moved` are messages that
    follow the results.
    """

    said: list[str]
    calls: list[dict[str, Any]] = field(default_factory=list)
    ids: dict[int, str] = field(default_factory=dict)
    unanswered: list[int] = field(default_factory=list)
    waiting: set[int] = field(default_factory=set)
    results: list[Message] = field(default_factory=list)
    thoughts: list[tuple[str, str]] = field(default_factory=list)  # message fields and texts
    details: list[dict[str, Any]] = field(default_factory=list)
    shown: list[dict[str, Any]] = field(default_factory=list)
    moved: list[Message] = field(default_factory=list)


class _History:
    """The messages converted so far, and the open group."""

    def __init__(self, items: list[Item]) -> None:
        self.items = items
        self.found: list[Message] = []
        self._call_of, self._repeated = matched(items)
        self._answered = set(self._call_of.values())
        self._group: _Group | None = None
        self._ids: dict[str, int] = {}  # from an id to the number of its last variant
        self._outputs: dict[str, Any] = {}
        self._thoughts: list[tuple[str, str]] = []  # of the current assistant turn

    def message(self, item: Item) -> None:
        """Adds a message, and a user message for parts that only a user message can have."""
        role, content = _ROLES[item["role"]], item.get("content") or ""
        if role == "user":
            self._add({"role": role, "content": _shown_by_user(content)})
            return
        text, shown = _divided(content)
        if text or not shown:
            self._add({"role": role, "content": text})
        if shown:
            self._add({"role": "user", "content": shown})

    def _add(self, message: Message) -> None:
        group = self._group
        if message["role"] == "assistant":
            # A message truncated before its first word is empty, and some servers refuse it.
            if not message["content"]:
                return
            if group is not None:
                group.said.append(message["content"])
                return
        elif group is not None and group.waiting:
            group.moved.append(message)
            return
        self.close()
        self.found.append(message)
        if message["role"] != "assistant":
            self._thoughts.clear()

    def reasoning(self, item: Item) -> None:
        """Adds reasoning to the message with the calls that follow it."""
        if name := item.get("holdline_field"):
            thoughts = self._thoughts if self._group is None else self._group.thoughts
            thoughts += [(name, part["text"]) for part in item.get("content") or ()]

    def call(self, position: int) -> None:
        """Adds a call to the open group, or begins a group with it."""
        item = self.items[position]
        arguments = object_of(item["arguments"], whole=position in self._answered)
        if arguments is None or position in self._repeated:
            return
        if self._group is None:
            begun = bool(self.found) and self.found[-1]["role"] == "assistant"
            self._group = _Group([self.found.pop()["content"]] if begun else [])
            self._group.thoughts, self._thoughts = self._thoughts, []
        group = self._group
        call_id = group.ids[position] = self._unique(item["call_id"])
        function = {"name": item["name"], "arguments": arguments}
        told = {"id": call_id, "type": "function", "function": function}
        if item.get("extra_content"):
            told["extra_content"] = item["extra_content"]
        group.details += item.get("reasoning_details") or ()
        group.calls.append(told)
        if position in self._answered:
            group.waiting.add(position)
        else:
            group.unanswered.append(position)

    def result(self, position: int) -> None:
        """Adds the result of a call behind the calls of the group."""
        item, call = self.items[position], self._call_of.get(position)
        text, shown = _divided(item["output"])
        group = self._group
        if call is None or group is None:
            if self._outputs.get(item["call_id"]) != item["output"]:
                told = f"{_RESULT}a call that is not shown here:\n{text}"
                parts = [{"type": "text", "text": told}, *shown]
                self._add({"role": "user", "content": parts if shown else told})
            return
        self._outputs[item["call_id"]] = item["output"]
        group.results.append({"role": "tool", "tool_call_id": group.ids[call], "content": text})
        if shown:
            told = f"{_RESULT}{self.items[call]['name']} ({group.ids[call]}), continued:"
            group.shown += [{"type": "text", "text": told}, *shown]
        group.waiting.remove(call)
        if not group.waiting:
            self.close()

    def close(self) -> None:
        """Ends the open group, and adds a result for each call that has none."""
        if (group := self._group) is None:
            return
        self._group = None
        message: Message = {"role": "assistant", "content": "".join(group.said) or None}
        message["tool_calls"] = group.calls
        for name, thought in group.thoughts:
            message[name] = message.get(name, "") + thought
        if group.details:
            message["reasoning_details"] = group.details
        self.found.append(message)
        self.found += group.results
        for position in group.unanswered:
            answer = {"role": "tool", "tool_call_id": group.ids[position], "content": NOT_EXECUTED}
            self.found.append(answer)
        if group.shown:
            self.found.append({"role": "user", "content": group.shown})
        self.found += group.moved

    def _unique(self, call_id: str) -> str:
        """Returns the id, with a suffix if it was used before: some servers refuse duplicates."""
        unique, number = call_id, self._ids.get(call_id, 1)
        while unique in self._ids:
            number += 1
            unique = f"{call_id}_{number}"
        self._ids[call_id] = number
        self._ids.setdefault(unique, 1)
        return unique


def _divided(content: str | list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Returns the text, and the images and files, which only a user message can have."""
    if isinstance(content, str):
        return content, []
    text = "".join(_text(part) for part in content if part.get("type") not in _SHOWN_PARTS)
    return text, [_part(part) for part in content if part.get("type") in _SHOWN_PARTS]


def _shown_by_user(content: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Returns the content of a user message.

    Content that is only text becomes one string, which every compatible server accepts. Otherwise
    the result is a list of parts. Empty texts are dropped, because some servers refuse them.
    """
    text, shown = _divided(content)
    if isinstance(content, str) or not shown:
        return text
    return [part for part in map(_part, content) if part.get("text") != ""]


def _text(part: dict[str, Any]) -> str:
    kind = part.get("type")
    if kind not in _TEXT_PARTS:
        raise UnsupportedInput(f"content of type {kind} is not supported")
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
