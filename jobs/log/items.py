"""Builds output items, their parts and their events, as the Responses API defines them.

    message             has parts of output text and refusals
    reasoning           has parts of reasoning text, and a summary if the endpoint writes one
    function_call       has arguments
    custom_tool_call    has an input, which is any text
    shell_call          has shell commands
    local_shell_call    has a command, which its first event already contains
    apply_patch_call    has the change of a file, which its first event already contains
    tool_search_call    has arguments, which its first event already contains

The first event of an item adds it without content, deltas extend it, and its last event repeats
the whole item. A `Place` names the text that a delta extends.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .codec import Event

Item = dict[str, Any]
Part = dict[str, Any]

# Maps the type of a part to the name of the field that contains its text.
TEXT_OF: Final = {
    "output_text": "text",
    "refusal": "refusal",
    "reasoning_text": "text",
    "summary_text": "text",
}
ARGUMENTS: Final = "function_call_arguments"
CUSTOM_INPUT: Final = "custom_tool_call_input"
SHELL_COMMAND: Final = "shell_call_command"
# The types of the calls that the client executes, and of the items with their results.
CALL_TYPES: Final = frozenset(
    {
        "function_call",
        "custom_tool_call",
        "local_shell_call",
        "shell_call",
        "apply_patch_call",
        "tool_search_call",
    }
)
RESULT_TYPES: Final = frozenset(
    {
        "function_call_output",
        "custom_tool_call_output",
        "local_shell_call_output",
        "shell_call_output",
        "apply_patch_call_output",
        "tool_search_output",
    }
)
# Maps the type of a tool to the member of its call's item that says what to do.
_ACTIONS: Final = {"apply_patch": "operation", "tool_search": "arguments"}
# Maps the deltas of a provider's own tools to the field of the item that they extend.
_PROVIDER_TEXTS: Final = {
    "code_interpreter_call_code.delta": "code",
    "mcp_call_arguments.delta": "arguments",
}


@dataclass(frozen=True, slots=True)
class Place:
    """The place to which a piece of text belongs: a part of an item, or a tool call's arguments.

    `kind` is the type of the part, or `ARGUMENTS`, `CUSTOM_INPUT` or `SHELL_COMMAND`. `index` is
    the output index of the item, and `part` the index of the part or of the command in the item.
    """

    kind: str
    item_id: str
    index: int
    part: int = 0

    @property
    def fields(self) -> dict[str, Any]:
        """The fields that name this place in an event."""
        if self.kind == SHELL_COMMAND:  # the standard's events for commands have no item id
            return {"output_index": self.index, "command_index": self.part}
        where: dict[str, Any] = {"item_id": self.item_id, "output_index": self.index}
        if self.kind == "summary_text":
            where["summary_index"] = self.part
        elif self.kind not in (ARGUMENTS, CUSTOM_INPUT):
            where["content_index"] = self.part
        return where

    @property
    def event(self) -> str:
        """The common prefix of the types of all events for this place."""
        kind = "reasoning_summary_text" if self.kind == "summary_text" else self.kind
        return f"response.{kind}"


def message(item_id: str, status: str, content: list[Part]) -> Item:
    """Returns an output item of the type `message`."""
    return {
        "id": item_id,
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def reasoning(
    item_id: str, status: str, content: list[Part], field: str = "", model: str = ""
) -> Item:
    """Returns a reasoning item.

    `field` names the field of a chat message in which the model named `model` expects to receive
    its reasoning with the next request.
    """
    item = {
        "id": item_id,
        "type": "reasoning",
        "status": status,
        "summary": [],
        "content": content,
    }
    return item | {"holdline_field": field, "holdline_model": model} if field else item


def function_call(
    item_id: str,
    status: str,
    call_id: str,
    name: str,
    arguments: str,
    namespace: str = "",
) -> Item:
    """Returns a function call. `arguments` is the JSON text that the model wrote, unchanged."""
    item = {
        "id": item_id,
        "type": "function_call",
        "status": status,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    }
    return item | {"namespace": namespace} if namespace else item


def custom_tool_call(
    item_id: str, status: str, call_id: str, name: str, given: str, namespace: str = ""
) -> Item:
    """Returns a call of a custom tool, whose input is the text `given`."""
    item = {
        "id": item_id,
        "type": "custom_tool_call",
        "status": status,
        "call_id": call_id,
        "name": name,
        "input": given,
    }
    return item | {"namespace": namespace} if namespace else item


def action_call(kind: str, item_id: str, status: str, call_id: str, action: dict[str, Any]) -> Item:
    """Returns a `local_shell_call`, `shell_call`, `apply_patch_call` or `tool_search_call`.

    `kind` is the type of the tool. `action` is the item's `action`, or the `operation` of an
    `apply_patch_call`, or the `arguments` of a `tool_search_call`.
    """
    item = {
        "id": item_id,
        "type": f"{kind}_call",
        "status": status,
        "call_id": call_id,
        _ACTIONS.get(kind, "action"): action,
    }
    return item | {"execution": "client"} if kind == "tool_search" else item


def text_part(text: str) -> Part:
    """Returns a part of the type `output_text`."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def part_of(kind: str, text: str = "") -> Part:
    """Returns a part of the type `kind` with a text."""
    return text_part(text) if kind == "output_text" else {"type": kind, TEXT_OF[kind]: text}


def added(index: int, item: Item) -> Event:
    """Returns the event that begins an item."""
    return {"type": "response.output_item.added", "output_index": index, "item": item}


def part_added(place: Place) -> Event:
    """Returns the event that begins a part."""
    begun = {**place.fields, "part": part_of(place.kind)}
    return {"type": "response.content_part.added", **begun}


def delta(place: Place, text: str, logprobs: list[Any] | None = None) -> Event:
    """Returns the event that extends a text. `logprobs` applies only to output text."""
    event = {"type": f"{place.event}.delta", **place.fields, "delta": text}
    return event | {"logprobs": logprobs or []} if place.kind == "output_text" else event


def command_added(place: Place) -> Event:
    """Returns the event that begins a command of a `shell_call`."""
    return {"type": f"{place.event}.added", **place.fields, "command": ""}


def command_done(place: Place, command: str) -> Event:
    """Returns the event that ends a command of a `shell_call`."""
    return {"type": f"{place.event}.done", **place.fields, "command": command}


def annotated(place: Place, number: int, annotation: dict[str, Any]) -> Event:
    """Returns the event that adds an annotation to a part of output text."""
    return {
        "type": "response.output_text.annotation.added",
        **place.fields,
        "annotation_index": number,
        "annotation": annotation,
    }


def done(index: int, item: Item) -> list[Event]:
    """Returns the events that end an item: first the events of its parts, then its own event."""
    events: list[Event] = []
    if item["type"] == "function_call":
        place = Place(ARGUMENTS, item["id"], index)
        named = {"name": item["name"], "arguments": item["arguments"]}
        events.append({"type": f"{place.event}.done", **place.fields, **named})
    if item["type"] == "custom_tool_call" and isinstance(given := item.get("input"), str):
        place = Place(CUSTOM_INPUT, item["id"], index)
        events.append({"type": f"{place.event}.done", **place.fields, "input": given})
    for number, part in _texts(item, "summary"):
        events += _part_done(Place("summary_text", item["id"], index, number), part)
    for number, part in _texts(item, "content"):
        events += _part_done(Place(part["type"], item["id"], index, number), part)
    return [*events, {"type": "response.output_item.done", "output_index": index, "item": item}]


def _texts(item: Item, name: str) -> list[tuple[int, Part]]:
    """Returns the text parts in the field `name` of an item, with their indexes.

    The field of an item of unknown type may contain other values, which are skipped.
    """
    parts = item.get(name)
    return [
        (number, part)
        for number, part in enumerate(parts if isinstance(parts, list) else ())
        if isinstance(part, dict) and part.get("type") in TEXT_OF
    ]


def _part_done(place: Place, part: Part) -> list[Event]:
    field = TEXT_OF[place.kind]
    whole = {"type": f"{place.event}.done", **place.fields, field: part[field]}
    if place.kind == "output_text":
        whole["logprobs"] = part.get("logprobs") or []
    stem = "reasoning_summary" if place.kind == "summary_text" else "content"
    return [whole, {"type": f"response.{stem}_part.done", **place.fields, "part": part}]


def apply(item: Item, event: Event) -> None:
    """Changes an item as one of its events describes. Called by `ResponseState`."""
    match event["type"]:
        case "response.content_part.added":
            item.setdefault("content", []).append(deepcopy(event["part"]))
        case "response.reasoning_summary_part.added":
            item.setdefault("summary", []).append(deepcopy(event["part"]))
        case "response.function_call_arguments.delta":
            _append(item, "arguments", event["delta"])
        case "response.custom_tool_call_input.delta":
            item.setdefault("input", "")
            _append(item, "input", event["delta"])
        case "response.shell_call_command.added":
            _commands(item).append(event["command"])
        case "response.shell_call_command.delta":
            _append(_commands(item), event["command_index"], event["delta"])
        case "response.output_text.annotation.added":
            _part(item, event)["annotations"].append(event["annotation"])
        case "response.output_text.delta":
            part = _part(item, event)
            _append(part, "text", event["delta"])
            if event.get("logprobs"):
                part["logprobs"].extend(event["logprobs"])
        case "response.reasoning_text.delta":
            _append(_part(item, event), "text", event["delta"])
        case "response.reasoning_summary_text.delta":
            _append(item["summary"][event["summary_index"]], "text", event["delta"])
        case "response.refusal.delta":
            _append(_part(item, event), "refusal", event["delta"])
        case kind if (name := _PROVIDER_TEXTS.get(kind.removeprefix("response."))) is not None:
            item[name] = item.get(name) or ""
            _append(item, name, event["delta"])
        case _:
            pass  # a done event only repeats the text of the deltas


def incomplete(item: Item) -> Item:
    """Returns an open item as incomplete.

    Some clients execute each call that has ended, whatever its status is. A part of a command, of a
    query or of a patch could be harmful. Therefore an incomplete call contains none. The arguments
    of a `function_call` stay, because a part of a JSON object cannot be parsed.
    """
    ended = {**item, "status": "incomplete"}
    match item:
        case {"type": "custom_tool_call"}:
            return ended | {"input": ""}
        case {"type": "shell_call", "action": dict(action)}:
            return ended | {"action": {**action, "commands": []}}
        case {"type": "local_shell_call", "action": dict(action)}:
            return ended | {"action": {**action, "command": []}}
        case {"type": "apply_patch_call"}:
            return item  # the standard has no such status for this type
        case _:
            return ended


def _append(holder: Any, name: str | int, delta: str) -> None:
    """Appends to a text in a dictionary or a list.

    CPython extends a string in place if a local variable has the only reference to it. `+=` on the
    entry itself would copy the whole text for each delta, so that a long answer would take time
    in proportion to the square of its length.
    """
    text: str = holder[name]
    holder[name] = ""
    text += delta
    holder[name] = text


def _commands(item: Item) -> list[str]:
    commands: list[str] = item.setdefault("action", {}).setdefault("commands", [])
    return commands


def _part(item: Item, event: Event) -> Part:
    part: Part = item["content"][event["content_index"]]
    return part
