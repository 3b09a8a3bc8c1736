"""The types of input items with calls of a client's tools, and with the results of these calls.

These items are kept as the client sent them. The types are only used to check the members that
Holdline reads.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from jobs.summary import COMPACTION, TRIGGER

from .items import (
    CallId,
    FunctionName,
    InputFile,
    InputImage,
    InputText,
    Item,
    ItemId,
    Passed,
    without_nulls,
)
from .problem import invalid
from .validation import TypeName, check_shape, check_storable

_Texts = Annotated[list[str], Meta(max_length=10_000)]


class CallItem(msgspec.Struct, kw_only=True):
    """The members that all these items have, except the results of a local shell."""

    call_id: CallId
    id: CallId | None = None


class CustomCall(CallItem, kw_only=True, tag_field="type", tag="custom_tool_call"):
    """A call of a custom tool from an earlier answer."""

    name: FunctionName
    input: str


class CustomCallOutput(CallItem, kw_only=True, tag_field="type", tag="custom_tool_call_output"):
    """The result of a custom tool's call."""

    output: str | list[InputText | InputImage | InputFile]


class LocalShellAction(msgspec.Struct):
    """The command of a local shell call."""

    command: _Texts


class LocalShellCall(CallItem, kw_only=True, tag_field="type", tag="local_shell_call"):
    """A call of the local shell from an earlier answer."""

    action: LocalShellAction


class LocalShellOutput(msgspec.Struct, tag_field="type", tag="local_shell_call_output"):
    """The result of a local shell call. The call is named by `call_id`, or by `id`."""

    output: str
    call_id: CallId | None = None
    id: CallId | None = None

    def __post_init__(self) -> None:
        """Raises ValueError if the item names no call."""
        if self.call_id is None and self.id is None:
            raise ValueError("Object missing required field `call_id`")


class ShellAction(msgspec.Struct):
    """The commands of a shell call."""

    commands: _Texts


class ShellCall(CallItem, kw_only=True, tag_field="type", tag="shell_call"):
    """A call of the shell from an earlier answer."""

    action: ShellAction


class ShellOutcome(msgspec.Struct):
    """The end of a command: its exit, or a timeout."""

    type: TypeName
    exit_code: int | None = None


class ShellOutput(msgspec.Struct):
    """The output of one command of a shell call."""

    stdout: str
    stderr: str
    outcome: ShellOutcome


class ShellCallOutput(CallItem, kw_only=True, tag_field="type", tag="shell_call_output"):
    """The result of a shell call."""

    output: Annotated[list[ShellOutput], Meta(max_length=10_000)]


class PatchOperation(msgspec.Struct):
    """The change of one file."""

    type: TypeName
    path: str
    diff: str | None = None


class PatchCall(CallItem, kw_only=True, tag_field="type", tag="apply_patch_call"):
    """A call of the patch tool from an earlier answer."""

    operation: PatchOperation


class PatchCallOutput(CallItem, kw_only=True, tag_field="type", tag="apply_patch_call_output"):
    """The result of a patch."""

    status: Literal["completed", "failed"]
    output: str | None = None


class SearchCall(msgspec.Struct, tag_field="type", tag="tool_search_call"):
    """A search for tools. A search that a provider executed has no `call_id`."""

    arguments: Any
    call_id: CallId | None = None


class Compaction(msgspec.Struct, tag_field="type", tag="compaction"):
    """A summary of earlier items, which only its creator can read."""

    encrypted_content: str
    id: CallId | None = None


class AnyItem(msgspec.Struct):
    """An item of another type, which is passed on unread."""

    type: TypeName
    id: ItemId | None = None
    call_id: CallId | None = None


_SHAPES: Final[dict[str, type[msgspec.Struct]]] = {
    "custom_tool_call": CustomCall,
    "custom_tool_call_output": CustomCallOutput,
    "local_shell_call": LocalShellCall,
    "local_shell_call_output": LocalShellOutput,
    "shell_call": ShellCall,
    "shell_call_output": ShellCallOutput,
    "apply_patch_call": PatchCall,
    "apply_patch_call_output": PatchCallOutput,
    "tool_search_call": SearchCall,
    COMPACTION: Compaction,
}


def check_items(items: list[Item]) -> None:
    """Checks the items that are kept as the client sent them. Raises: Problem."""
    for index, item in enumerate(items):
        if isinstance(item, Passed):
            fields, place = item.fields, f"input[{index}]"
            shape = _SHAPES.get(fields["type"], AnyItem)
            check_shape(without_nulls(fields), shape, place)
            check_storable(fields, place)
            if fields["type"] == TRIGGER and index < len(items) - 1:
                message = f"'{place}' must be the last input item, because it is a '{TRIGGER}'."
                raise invalid(place, message)
