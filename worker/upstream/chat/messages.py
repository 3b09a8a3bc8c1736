"""Converts items of the Responses API to the messages of a chat completion.

Each type of item becomes a message or a part of one:

    message               a message whose content is a string, or a list of parts for a user
                          message with images or files
    function_call         a call in the preceding assistant message
    function_call_output  a message with the role `tool`
    reasoning             the field `reasoning_content` or `reasoning` of the assistant message with
                          the calls that follow, if the provider sent the reasoning in that field;
                          all other reasoning is dropped

The module `tool_history` converts the calls of all other tools to function calls first.

Items may have any order, but a chat completion accepts only one order: an assistant message with
calls, then one result for each call, then any other message. Therefore the module changes the order
by these rules:

- Text or another call that follows a call in the same answer is merged into the message that has
  the first call.
- If the model answered a message that stands between a call and its result, the call is moved to
  the position after that answer. A copy of the message before the call counts as answered, because
  some clients send it again with each result. Any other message between a call and its result
  follows the results, because it is the newest question.
- Images and files of a result go into a user message after the results. Images and files of a
  system or assistant message go into a user message after that message and its calls' results.
- A call without a result gets the result `NOT_EXECUTED`. If the arguments of such a call are
  truncated, the call is left out.
- A result without a call becomes a user message.

If a provider put `extra_content` into a call or `reasoning_details` into a message, the converted
messages contain that data too, because some providers refuse the call without it. The module
`provider_data` selects the data that came from the called model.

Texts with the same role keep their order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from worker.upstream.tool_calls import NOT_EXECUTED, matched, object_of

if TYPE_CHECKING:
    from collections.abc import Iterable

Message = dict[str, Any]
Item = dict[str, Any]

# A user message that contains the result of a call begins with this text.
_RESULT: Final = "Result of "
_ROLES: Final = {
    "system": "system",
    # `developer` is the newer name of the role `system`, but most compatible servers refuse it.
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
# Maps the type of a content part to the field that contains its text.
_TEXT_PARTS: Final = {
    "input_text": "text",
    "output_text": "text",
    "text": "text",
    "refusal": "refusal",
}
_SHOWN_PARTS: Final = frozenset({"input_image", "input_file"})


class UnsupportedInput(Exception):
    """The endpoint's API cannot express a part of the request.

    The error message names only the type of that part.
    """


def messages(items: Iterable[Item]) -> list[Message]:
    """Converts items to messages, in the order that a chat completion requires.

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
    return history.messages()


def holds_result(message: Message) -> bool:
    """Returns True if a user message contains a call's result, or images or files of a result."""
    content = message.get("content")
    if isinstance(content, list):
        content = content[0].get("text") if content else None
    return message.get("role") == "user" and str(content or "").startswith(_RESULT)


@dataclass(slots=True)
class _Group:
    """An assistant message with the calls of one answer, and their results.

    `place` is the group's index in the history. `said` are the texts that followed the first call.
    `ids` maps the position of each call's item to the call id that is sent. `waiting` are the
    positions of the calls whose results come later among the items.
    """

    place: int
    said: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    ids: dict[int, str] = field(default_factory=dict)
    unanswered: list[int] = field(default_factory=list)
    waiting: set[int] = field(default_factory=set)
    results: list[Message] = field(default_factory=list)
    # pairs of a message field and its text
    thoughts: list[tuple[str, str]] = field(default_factory=list)
    details: list[dict[str, Any]] = field(default_factory=list)
    shown: list[dict[str, Any]] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """True after the last result, when the next text belongs to another answer."""
        return bool(self.results) and not self.waiting

    def messages(self, text: str) -> list[Message]:
        """Returns the assistant message and the results.

        `text` precedes the calls. Each call without a result gets the result `NOT_EXECUTED`.
        """
        message: Message = {"role": "assistant", "content": text + "".join(self.said) or None}
        message["tool_calls"] = self.calls
        for name, thought in self.thoughts:
            message[name] = message.get(name, "") + thought
        if self.details:
            message["reasoning_details"] = self.details
        answers = [
            {"role": "tool", "tool_call_id": self.ids[position], "content": NOT_EXECUTED}
            for position in self.unanswered
        ]
        shown = [{"role": "user", "content": self.shown}] if self.shown else []
        return [message, *self.results, *answers, *shown]


class _History:
    """The messages converted so far.

    `_placed` are the messages and groups up to the model's last answer, and `_newer` are the
    messages after it. A group that was moved leaves its text, or None, at its old index, so that
    the other groups keep their indexes.
    """

    def __init__(self, items: list[Item]) -> None:
        self.items = items
        self._placed: list[Message | _Group | None] = []
        self._newer: list[Message] = []
        self._call_of, self._repeated = matched(items)
        self._answered = set(self._call_of.values())
        self._group_of: dict[int, _Group] = {}  # maps the position of a call to its group
        # The role and the text of the last message that is not from the assistant.
        self._question = ("", "")
        # Maps a question to the last group of calls that followed it.
        self._asked: dict[tuple[str, str], _Group] = {}
        self._ids: dict[str, int] = {}  # maps a call id to its last numeric suffix
        self._outputs: dict[str, Any] = {}
        self._thoughts: list[tuple[str, str]] = []  # the reasoning of the current assistant turn

    def message(self, item: Item) -> None:
        """Adds a message.

        Images and files go into an additional user message, unless the message is from the user.
        """
        role, content = _ROLES[item["role"]], item.get("content") or ""
        if role == "user":
            self._add({"role": role, "content": _shown_by_user(content)})
            return
        text, shown = _divided(content)
        if text or not shown:
            self._add({"role": role, "content": text})
        if role == "assistant" and (group := self._open_group()) is not None:
            group.shown += shown
        elif shown:
            self._add({"role": "user", "content": shown})

    def _add(self, message: Message) -> None:
        role, content = message["role"], message["content"]
        if role == "assistant":
            # An assistant message that was truncated before its first word is empty. It is left
            # out, because some servers refuse empty messages.
            if not content:
                return
            if (group := self._open_group()) is not None:
                group.said.append(content)
            else:
                self._place(message)
            return
        self._newer.append(message)
        self._thoughts.clear()
        self._question = (role, str(content))
        group = self._asked.get(self._question)
        if group is not None and group.waiting:
            self._place()

    def _place(self, *answer: Message | _Group) -> None:
        """Adds an answer after the messages that it answers."""
        self._placed += self._newer
        self._newer.clear()
        self._placed += answer

    def _open_group(self) -> _Group | None:
        """Returns the group of the current answer, if the answer has calls."""
        last = self._placed[-1] if self._placed and not self._newer else None
        return last if isinstance(last, _Group) and not last.complete else None

    def reasoning(self, item: Item) -> None:
        """Adds reasoning to the assistant message with the function calls that follow."""
        if name := item.get("holdline_field"):
            group = self._open_group()
            thoughts = self._thoughts if group is None else group.thoughts
            thoughts += [(name, part["text"]) for part in item.get("content") or ()]

    def call(self, position: int) -> None:
        """Adds a call to the open group, or begins a new group with the call."""
        item = self.items[position]
        arguments = object_of(item["arguments"], whole=position in self._answered)
        if arguments is None or position in self._repeated:
            return
        if (group := self._open_group()) is None:
            self._place()
            group = _Group(len(self._placed))
            group.thoughts, self._thoughts = self._thoughts, []
            self._asked[self._question] = group
            self._place(group)
        self._group_of[position] = group
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
        """Adds the result of a call to the group that contains the call."""
        item, call = self.items[position], self._call_of.get(position)
        text, shown = _divided(item["output"])
        if call is None:
            if self._outputs.get(item["call_id"]) != item["output"]:
                told = f"{_RESULT}a call that is not shown here:\n{text}"
                parts = [{"type": "text", "text": told}, *shown]
                self._add({"role": "user", "content": parts if shown else told})
            return
        group = self._group_of[call]
        self._outputs[item["call_id"]] = item["output"]
        group.results.append({"role": "tool", "tool_call_id": group.ids[call], "content": text})
        if shown:
            told = f"{_RESULT}{self.items[call]['name']} ({group.ids[call]}), continued:"
            group.shown += [{"type": "text", "text": told}, *shown]
        group.waiting.remove(call)
        if not group.waiting:
            self._move_behind_answers(group)

    def _move_behind_answers(self, group: _Group) -> None:
        """Moves a complete group to the end of the placed messages.

        The text of the group keeps its place, so that all texts keep their order.
        """
        self._thoughts.clear()
        if self._placed[-1] is group:
            return
        text = "".join(group.said)
        self._placed[group.place] = {"role": "assistant", "content": text} if text else None
        group.said.clear()
        group.place = len(self._placed)
        self._placed.append(group)

    def messages(self) -> list[Message]:
        """Returns all messages. Text directly before a call is merged into the call's message."""
        found: list[Message] = []
        for entry in (*self._placed, *self._newer):
            if isinstance(entry, _Group):
                begun = bool(found) and found[-1]["role"] == "assistant"
                found += entry.messages(found.pop()["content"] if begun else "")
            elif entry is not None:
                found.append(entry)
        return found

    def _unique(self, call_id: str) -> str:
        """Returns a call id that is unique in the request, because some servers refuse duplicates.

        If another call has the same id, the returned id has a numeric suffix.
        """
        unique, number = call_id, self._ids.get(call_id, 1)
        while unique in self._ids:
            number += 1
            unique = f"{call_id}_{number}"
        self._ids[call_id] = number
        self._ids.setdefault(unique, 1)
        return unique


def _divided(content: str | list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Returns the text of some content, and separately the images and files in it.

    Only a user message can contain images and files.
    """
    if isinstance(content, str):
        return content, []
    text = "".join(_text(part) for part in content if part.get("type") not in _SHOWN_PARTS)
    return text, [_part(part) for part in content if part.get("type") in _SHOWN_PARTS]


def _shown_by_user(content: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Returns the content of a user message.

    Content that consists only of text becomes one string, which every compatible server accepts.
    Other content becomes a list of parts. Parts with empty text are left out, because some servers
    refuse them.
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
        case "input_image" | "input_file" if not (part.get("image_url") or part.get("file_data")):
            raise UnsupportedInput("files by id or URL are not supported")
        case "input_image":
            image = {"url": part["image_url"], "detail": part.get("detail") or "auto"}
            return {"type": "image_url", "image_url": image}
        case "input_file":
            file = {name: part[name] for name in ("filename", "file_data") if part.get(name)}
            return {"type": "file", "file": file}
        case _:
            return {"type": "text", "text": _text(part)}
