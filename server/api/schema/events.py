"""The types of the events in a response's log."""

from __future__ import annotations

from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType

from server.api.client_messages import Lane

from .objects import Item, Part, Response, SummaryPart
from .tagged import tagged


class Numbered(Struct, kw_only=True):
    """An event of a response's log. `stream_id` is present on a socket's lane."""

    sequence_number: int
    stream_id: Lane | UnsetType = UNSET


class OfResponse(Numbered):
    response: Response


class OfItem(Numbered):
    output_index: int
    item: Item


class InItem(Numbered):
    item_id: str
    output_index: int


class InPart(InItem):
    content_index: int


class OfPart(InPart):
    part: Part


class PartDelta(InPart):
    delta: str


class TextDelta(PartDelta):
    logprobs: list[dict[str, Any]]


class TextDone(InPart):
    text: str
    logprobs: list[dict[str, Any]]


class RefusalDone(InPart):
    refusal: str


class ReasoningDone(InPart):
    text: str


class AnnotationAdded(InPart):
    annotation_index: int
    annotation: dict[str, Any]


class ArgumentsDelta(InItem):
    delta: str


class ArgumentsDone(InItem):
    arguments: str
    name: str | UnsetType = UNSET


class InputDelta(InItem):
    delta: str


class InputDone(InItem):
    input: str


class InCommand(Numbered):
    output_index: int
    command_index: int


class CommandText(InCommand):
    command: str


class CommandDelta(InCommand):
    delta: str


class OfSummary(InItem):
    summary_index: int
    part: SummaryPart


class SummaryDelta(InItem):
    summary_index: int
    delta: str


class SummaryDone(InItem):
    summary_index: int
    text: str


class Restarted(Numbered):
    response_id: str
    attempt: int
    reason: str


class Continued(Restarted):
    item_id: str
    output_index: int
    content_index: int
    at: int


EVENTS: Final[dict[str, type[Struct]]] = {
    **tagged(OfResponse, "response.created", "response.queued", "response.in_progress"),
    **tagged(OfResponse, "response.completed", "response.incomplete", "response.failed"),
    **tagged(OfItem, "response.output_item.added", "response.output_item.done"),
    **tagged(OfPart, "response.content_part.added", "response.content_part.done"),
    **tagged(TextDelta, "response.output_text.delta"),
    **tagged(TextDone, "response.output_text.done"),
    **tagged(AnnotationAdded, "response.output_text.annotation.added"),
    **tagged(PartDelta, "response.refusal.delta", "response.reasoning_text.delta"),
    **tagged(RefusalDone, "response.refusal.done"),
    **tagged(ReasoningDone, "response.reasoning_text.done"),
    **tagged(OfSummary, "response.reasoning_summary_part.added"),
    **tagged(OfSummary, "response.reasoning_summary_part.done"),
    **tagged(SummaryDelta, "response.reasoning_summary_text.delta"),
    **tagged(SummaryDone, "response.reasoning_summary_text.done"),
    **tagged(ArgumentsDelta, "response.function_call_arguments.delta"),
    **tagged(ArgumentsDone, "response.function_call_arguments.done"),
    **tagged(InputDelta, "response.custom_tool_call_input.delta"),
    **tagged(InputDone, "response.custom_tool_call_input.done"),
    **tagged(CommandText, "response.shell_call_command.added", "response.shell_call_command.done"),
    **tagged(CommandDelta, "response.shell_call_command.delta"),
    **tagged(Restarted, "holdline:restarted"),
    **tagged(Continued, "holdline:continued"),
}
