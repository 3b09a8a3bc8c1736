"""The items of a request's input, as types, and as what is stored of them.

An item of the input is a message, or something that an earlier answer said and the client kept:
calls of functions and what came of them, reasoning, a reference to an item that is stored here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from .problem import invalid

Role = Literal["user", "assistant", "system", "developer"]
ItemId = Annotated[str, Meta(min_length=1, max_length=128)]
# LiteLLM puts a thought signature into the id of a call, and wants it back there.
MAX_CALL_ID: Final = 65_536
CallId = Annotated[str, Meta(min_length=1, max_length=MAX_CALL_ID)]
FunctionName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,128}\Z")]
ImageUrl = Annotated[str, Meta(pattern=r"^(https?://|data:image/)")]
FileData = Annotated[str, Meta(min_length=1)]


# Their members are not of the standard, and stay as they are.
_OPAQUE: Final = frozenset({"extra_content", "parameters", "schema"})
_pack: Final = msgspec.msgpack.Encoder().encode


class Opaque(msgspec.Struct):
    """A type with members that are not of the standard; they must fit what is stored."""

    def __post_init__(self) -> None:
        """Raise ValueError for an integer that is too large, which msgspec names by its place."""
        for name in _OPAQUE:
            try:
                _pack(getattr(self, name, None))
            except OverflowError:
                raise ValueError(f"an integer in '{name}' has more than 64 bits") from None


class InputText(msgspec.Struct, tag_field="type", tag="input_text", omit_defaults=True):
    """Text that the caller says."""

    text: str


class OutputText(msgspec.Struct, tag_field="type", tag="output_text"):
    """Text that a model said earlier; annotations and logprobs are not read back."""

    text: str


class Refusal(msgspec.Struct, tag_field="type", tag="refusal"):
    """A refusal that a model gave earlier."""

    refusal: str


class InputImage(msgspec.Struct, tag_field="type", tag="input_image"):
    """An image, by its address or as a data URL."""

    image_url: ImageUrl
    detail: Literal["low", "high", "auto", "original"] = "auto"


class InputFile(msgspec.Struct, tag_field="type", tag="input_file", omit_defaults=True):
    """A file: base64 data, or a data URL."""

    file_data: FileData
    filename: Annotated[str, Meta(max_length=255)] | None = None


class Message(msgspec.Struct, tag_field="type", tag="message", omit_defaults=True):
    """One message. What a client keeps of our own output items fits too.

    `phase` is for an upstream that speaks the standard.
    """

    role: Role
    content: str | list[InputText | OutputText | Refusal | InputImage | InputFile]
    phase: Annotated[str, Meta(max_length=64)] | None = None
    id: ItemId | None = None
    status: str | None = None


class FunctionCall(Opaque, tag_field="type", tag="function_call", omit_defaults=True):
    """A call that a model asked for earlier; `arguments` is JSON, as the model wrote it.

    `extra_content` is the provider's own, which wants it back.
    """

    call_id: CallId
    name: FunctionName
    arguments: str
    extra_content: dict[str, Any] | None = None
    id: ItemId | None = None
    status: str | None = None


class FunctionCallOutput(msgspec.Struct, tag_field="type", tag="function_call_output"):
    """What the call gave."""

    call_id: CallId
    output: str | list[InputText | InputImage | InputFile]
    id: ItemId | None = None
    status: str | None = None


class SummaryText(msgspec.Struct, tag_field="type", tag="summary_text"):
    """One part of a summary of reasoning."""

    text: str


class ReasoningText(msgspec.Struct, tag_field="type", tag="reasoning_text"):
    """One part of reasoning."""

    text: str


class Reasoning(msgspec.Struct, tag_field="type", tag="reasoning", omit_defaults=True):
    """Reasoning of an earlier answer; an upstream that wants it back is given it.

    `holdline_field` is the field of a chat message in which it came, `holdline_model` the model
    that wants it back there.
    """

    summary: list[SummaryText] = []
    content: list[ReasoningText] | None = None
    encrypted_content: str | None = None
    holdline_field: Literal["reasoning_content", "reasoning"] | None = None
    holdline_model: Annotated[str, Meta(max_length=256)] | None = None
    id: ItemId | None = None
    status: str | None = None


class ItemReference(msgspec.Struct, tag_field="type", tag="item_reference"):
    """Stands for an item that is stored here."""

    id: ItemId


Item = Message | FunctionCall | FunctionCallOutput | Reasoning | ItemReference

_PREFIXES: Final = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "reasoning": "rs",
}


def without_nulls(value: Any) -> Any:
    """The value without members that are null, which are as good as none."""
    match value:
        case dict():
            return {
                name: inner if name in _OPAQUE else without_nulls(inner)
                for name, inner in value.items()
                if inner is not None
            }
        case list():
            return [without_nulls(one) for one in value]
        case _:
            return value


def typed(items: Any) -> Any:
    """The input with `type` filled in where the standard lets it be left out: messages, and
    references that are nothing but an id. An empty id is as good as none.
    """
    if not isinstance(items, list):
        return items
    return [_typed(item) for item in items]


def _typed(item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    if item.get("id") == "":
        item = {name: value for name, value in item.items() if name != "id"}
    if item.get("type") is not None:
        return item
    reference = "id" in item and item.keys() <= {"id", "type"}
    return {**item, "type": "item_reference" if reference else "message"}


def check_results(before: list[dict[str, Any]], items: list[dict[str, Any]]) -> None:
    """Raises: Problem for the result of a call that nobody asked for, as no model takes it."""
    asked = {item["call_id"] for item in before if item["type"] == "function_call"}
    for index, item in enumerate(items):
        if item["type"] == "function_call":
            asked.add(item["call_id"])
        elif item["type"] == "function_call_output" and item["call_id"] not in asked:
            raise invalid(
                f"input[{index}].call_id",
                f"No function_call with call_id '{item['call_id'][:64]}' comes before its output. "
                "Send the call as well, or go on from its response with 'previous_response_id'.",
            )


def stored(items: str | list[Item], make_id: Callable[[str, int], str]) -> list[dict[str, Any]]:
    """The input as the standard's items, each with an id from `make_id(prefix, index)`.

    References stay as they are: what they stand for has an id of its own.
    """
    if isinstance(items, str):
        items = [Message(role="user", content=items)]
    return [_stored(item, index, make_id) for index, item in enumerate(items)]


def _stored(item: Item, index: int, make_id: Callable[[str, int], str]) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(item)
    kind = fields["type"]
    if kind == "item_reference":
        return fields
    fields["id"] = make_id(_PREFIXES[kind], index)
    fields["status"] = "completed"
    if isinstance(item, Message):
        fields["content"] = _parts(item)
    elif isinstance(item, Reasoning):
        fields.setdefault("summary", [])
    return fields


def _parts(message: Message) -> list[dict[str, Any]]:
    if isinstance(message.content, str):
        part = OutputText if message.role == "assistant" else InputText
        return [_part(part(message.content))]
    return [_part(part) for part in message.content]


def _part(part: InputText | OutputText | Refusal | InputImage | InputFile) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(part)
    if isinstance(part, OutputText):
        return fields | {"annotations": [], "logprobs": []}
    return fields
