"""The types of a request's input items, and their conversion to the stored form.

An input item is a message, or part of an earlier answer that the client kept: a function call or
its result, reasoning, or a reference to an item that is stored here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from jobs.ids import attempt_of
from jobs.support import ITEMS

from .validation import LargeInteger, require_storable

Role = Literal["user", "assistant", "system", "developer"]
ItemId = Annotated[str, Meta(min_length=1, max_length=128)]
# LiteLLM stores a thought signature in a call's id, and expects the signature back in the id.
MAX_CALL_ID: Final = 65_536
CallId = Annotated[str, Meta(min_length=1, max_length=MAX_CALL_ID)]
FunctionName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,128}\Z")]
ImageUrl = Annotated[str, Meta(pattern=r"^(https?://|data:image/)")]
FileData = Annotated[str, Meta(min_length=1)]
FileId = Annotated[str, Meta(min_length=1, max_length=256)]
FileUrl = Annotated[str, Meta(pattern=r"^https?://", max_length=8192)]


# Fields whose content the standard does not define. Their values are kept unchanged.
_OPAQUE: Final = frozenset(
    {"caller", "extra_content", "output_schema", "parameters", "prompt_cache_breakpoint", "schema"}
)


class Opaque(msgspec.Struct):
    """A base class for types with `_OPAQUE` fields, whose values must fit into MessagePack."""

    def __post_init__(self) -> None:
        """Raises LargeInteger, to which msgspec adds the object's path."""
        for name in _OPAQUE:
            if (value := getattr(self, name, None)) in (None, msgspec.UNSET):
                continue
            try:
                require_storable(value)
            except LargeInteger as error:
                raise LargeInteger(f".{name}{error.place}") from None


# Marks the end of a prefix that a provider may cache. It is passed on unread.
Breakpoint = dict[str, Any]


class InputText(Opaque, tag_field="type", tag="input_text", omit_defaults=True):
    """A content part with text from the caller."""

    text: str
    prompt_cache_breakpoint: Breakpoint | None = None


class OutputText(msgspec.Struct, tag_field="type", tag="output_text"):
    """Output text of an earlier answer; its annotations and logprobs are ignored."""

    text: str


class Refusal(msgspec.Struct, tag_field="type", tag="refusal"):
    """A model's refusal to answer, from an earlier answer."""

    refusal: str


class InputImage(Opaque, tag_field="type", tag="input_image"):
    """A content part with an image: an http(s) URL, a data URL, or the id of a provider's file."""

    image_url: ImageUrl | msgspec.UnsetType = msgspec.UNSET
    detail: Literal["low", "high", "auto", "original"] = "auto"
    file_id: FileId | msgspec.UnsetType = msgspec.UNSET
    prompt_cache_breakpoint: Breakpoint | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        """Raises ValueError if the part has no image; msgspec adds the part's path."""
        super().__post_init__()
        if self.image_url is msgspec.UNSET and self.file_id is msgspec.UNSET:
            raise ValueError("Object missing required field `image_url`")


class InputFile(Opaque, tag_field="type", tag="input_file", omit_defaults=True):
    """A content part with a file: base64 data, a data URL, or a file that a provider fetches."""

    file_data: FileData | None = None
    filename: Annotated[str, Meta(max_length=255)] | None = None
    file_id: FileId | None = None
    file_url: FileUrl | None = None
    detail: Annotated[str, Meta(max_length=16)] | None = None
    prompt_cache_breakpoint: Breakpoint | None = None

    def __post_init__(self) -> None:
        """Raises ValueError if the part has no file; msgspec adds the part's path."""
        super().__post_init__()
        if self.file_data is None and self.file_id is None and self.file_url is None:
            raise ValueError("Object missing required field `file_data`")


class Message(msgspec.Struct, tag_field="type", tag="message", omit_defaults=True):
    """A message in the input. Output messages of earlier responses are accepted too.

    `phase` is passed on to an upstream that implements the standard.
    """

    role: Role
    content: str | list[InputText | OutputText | Refusal | InputImage | InputFile]
    phase: Annotated[str, Meta(max_length=64)] | None = None
    id: ItemId | None = None
    status: str | None = None


class FunctionCall(Opaque, tag_field="type", tag="function_call", omit_defaults=True):
    """A function call from an earlier answer; `arguments` is JSON exactly as the model wrote it.

    `extra_content` is provider-specific data, which the provider expects back unchanged.
    """

    call_id: CallId
    name: FunctionName
    arguments: str
    namespace: FunctionName | None = None
    caller: dict[str, Any] | None = None
    is_async: bool | None = msgspec.field(default=None, name="async")
    extra_content: dict[str, Any] | None = None
    id: ItemId | None = None
    status: str | None = None


class FunctionCallOutput(Opaque, tag_field="type", tag="function_call_output", omit_defaults=True):
    """The result of a function call, sent by the client."""

    call_id: CallId
    output: str | list[InputText | InputImage | InputFile]
    name: FunctionName | None = None
    namespace: FunctionName | None = None
    caller: dict[str, Any] | None = None
    id: ItemId | None = None
    status: str | None = None


class SummaryText(msgspec.Struct, tag_field="type", tag="summary_text"):
    """One part of a reasoning summary."""

    text: str


class ReasoningText(msgspec.Struct, tag_field="type", tag="reasoning_text"):
    """One part of a model's reasoning text."""

    text: str


class Reasoning(msgspec.Struct, tag_field="type", tag="reasoning", omit_defaults=True):
    """The model's reasoning from an earlier answer, for upstreams that expect it back.

    `holdline_field` is the chat message field that contained the reasoning; `holdline_model` is the
    model that expects the reasoning back in this field.
    """

    summary: list[SummaryText] = []
    content: list[ReasoningText] | None = None
    encrypted_content: str | None = None
    holdline_field: Literal["reasoning_content", "reasoning"] | None = None
    holdline_model: Annotated[str, Meta(max_length=256)] | None = None
    id: ItemId | None = None
    status: str | None = None


class ItemReference(msgspec.Struct, tag_field="type", tag="item_reference"):
    """A reference to an item that is stored here."""

    id: ItemId


class Passed(msgspec.Struct, tag_field="type", tag="unread"):
    """An item of any other type, which is kept as the client sent it; `call_items` checks it.

    The tag is internal: `typed` puts each such item into the field `fields`.
    """

    fields: dict[str, Any]


Item = Message | FunctionCall | FunctionCallOutput | Reasoning | ItemReference | Passed

_TYPED: Final = frozenset(
    {"message", "function_call", "function_call_output", "reasoning", "item_reference"}
)
_DEFAULT_PREFIX: Final = "item"
# The fields of items that name another item by its id.
_REFERENCES: Final = ("approval_request_id",)


def without_nulls(value: Any) -> Any:
    """Returns the value without its null members; a null member counts as absent."""
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
    """Returns the input with `type` filled in where the standard makes it optional.

    `type` is optional in messages, and in references that consist only of an id. An empty id counts
    as absent.
    """
    if not isinstance(items, list):
        return items
    return [_typed(item) for item in items]


def _typed(item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    kind = item.get("type")
    if isinstance(kind, str) and kind not in _TYPED:
        return {"type": "unread", "fields": item}
    item = without_nulls(item)
    if item.get("id") == "":
        item = {name: value for name, value in item.items() if name != "id"}
    if kind is not None:
        return item
    reference = "id" in item and item.keys() <= {"id", "type"}
    return {**item, "type": "item_reference" if reference else "message"}


def stored(items: list[Item], make_id: Callable[[str, int], str]) -> list[dict[str, Any]]:
    """Returns the input as the standard's items, each with an id from `make_id(prefix, index)`.

    Items of void attempts are left out. References are kept unchanged, because the referenced items
    already have ids. An item that
    another item of the input names keeps the client's id: the model's output may name the item too,
    and the client must recognize it there.
    """
    items = _without_void(items)
    found = [_stored(item, index, make_id) for index, item in enumerate(items)]
    sent = {
        item.fields["id"]: new
        for item, new in zip(items, found, strict=True)
        if isinstance(item, Passed)
        and item.fields.get("id")
        and item.fields["type"] != "local_shell_call_output"
    }
    for item in found if sent else ():
        for name in _REFERENCES:
            if (other := sent.get(item.get(name, ""))) is not None:
                other["id"] = item[name]
        if item["type"] == "local_shell_call_output":
            item["call_id"] = sent.get(item["call_id"], item).get("call_id", item["call_id"])
    return found


def _without_void(items: list[Item]) -> list[Item]:
    """Returns the items without those that a later attempt of their response has replaced.

    Clients that show each item as it arrives send the items of all attempts, with the ids. Only the
    last attempt counts. Calls are kept, because the client may have sent their results.
    """
    attempts = [None if (id_ := _id_of(item)) is None else attempt_of(id_) for item in items]
    last: dict[str, int] = {}
    for response, attempt in filter(None, attempts):
        last[response] = max(attempt, last.get(response, 0))
    return [
        item
        for item, of in zip(items, attempts, strict=True)
        if of is None or of[1] == last[of[0]] or not isinstance(item, Message | Reasoning)
    ]


def _id_of(item: Item) -> str | None:
    id_ = item.fields.get("id") if isinstance(item, Passed) else item.id
    return id_ if isinstance(id_, str) else None


def _stored(item: Item, index: int, make_id: Callable[[str, int], str]) -> dict[str, Any]:
    if isinstance(item, Passed):
        return _passed(item.fields, index, make_id)
    fields: dict[str, Any] = msgspec.to_builtins(item)
    kind = fields["type"]
    if kind == "item_reference":
        return fields
    fields["id"] = make_id(ITEMS[kind].prefix, index)
    fields["status"] = "completed"
    if isinstance(item, Message):
        fields["content"] = _parts(item)
    elif isinstance(item, Reasoning):
        fields.setdefault("summary", [])
    return fields


def _passed(
    given: dict[str, Any], index: int, make_id: Callable[[str, int], str]
) -> dict[str, Any]:
    row = ITEMS.get(given["type"])
    fields = {**given, "id": make_id(row.prefix if row else _DEFAULT_PREFIX, index)}
    if given["type"] == "local_shell_call_output":
        # The standard names the call by the item's id; clients also use `call_id`.
        fields["call_id"] = given.get("call_id") or given["id"]
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
