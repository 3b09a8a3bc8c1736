"""The standard's objects: content parts, items and the response."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

ItemStatus = Literal["in_progress", "completed", "incomplete"]


# The types of content parts


class TextPart(Struct, tag_field="type", tag="output_text"):
    """A content part with text that the model produced."""

    text: str
    annotations: list[dict[str, Any]] = []
    logprobs: list[dict[str, Any]] = []


class RefusalPart(Struct, tag_field="type", tag="refusal"):
    """A content part with the model's refusal to answer."""

    refusal: str


class ReasoningPart(Struct, tag_field="type", tag="reasoning_text"):
    """A content part with text of the model's reasoning."""

    text: str


class SummaryPart(Struct, tag_field="type", tag="summary_text"):
    """A content part with text of a reasoning summary."""

    text: str


Part = TextPart | RefusalPart | ReasoningPart | SummaryPart


# The types of output items


class MessageItem(Struct, tag_field="type", tag="message"):
    """A message from the model."""

    id: str
    role: Literal["assistant"]
    status: ItemStatus
    content: list[TextPart | RefusalPart]
    phase: str | UnsetType | None = UNSET


class FunctionCallItem(Struct, tag_field="type", tag="function_call"):
    """A function that the caller should call; `arguments` is JSON as the model wrote it."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: ItemStatus
    namespace: str | UnsetType = UNSET
    extra_content: dict[str, Any] | UnsetType = UNSET


class CustomToolCallItem(Struct, tag_field="type", tag="custom_tool_call"):
    """A custom tool that the caller should call; `input` is any text."""

    id: str
    call_id: str
    name: str
    input: str
    status: ItemStatus
    namespace: str | UnsetType = UNSET
    extra_content: dict[str, Any] | UnsetType = UNSET


class LocalShellCallItem(Struct, tag_field="type", tag="local_shell_call"):
    """A command that the caller should execute."""

    id: str
    call_id: str
    action: dict[str, Any]
    status: ItemStatus
    extra_content: dict[str, Any] | UnsetType = UNSET


class ShellCallItem(Struct, tag_field="type", tag="shell_call"):
    """Shell commands that the caller should execute."""

    id: str
    call_id: str
    action: dict[str, Any]
    status: ItemStatus
    extra_content: dict[str, Any] | UnsetType = UNSET


class ApplyPatchCallItem(Struct, tag_field="type", tag="apply_patch_call"):
    """A change of a file that the caller should make."""

    id: str
    call_id: str
    operation: dict[str, Any]
    status: Literal["in_progress", "completed"]
    extra_content: dict[str, Any] | UnsetType = UNSET


class ToolSearchCallItem(Struct, tag_field="type", tag="tool_search_call"):
    """A search for tools that the caller should execute."""

    id: str
    call_id: str
    arguments: dict[str, Any]
    execution: Literal["client"]
    status: ItemStatus
    extra_content: dict[str, Any] | UnsetType = UNSET


class ReasoningItem(Struct, tag_field="type", tag="reasoning"):
    """The model's reasoning before its answer."""

    id: str
    summary: list[SummaryPart]
    content: list[ReasoningPart] | None = None
    encrypted_content: str | None = None
    status: ItemStatus | UnsetType = UNSET
    holdline_field: str | UnsetType = UNSET
    holdline_model: str | UnsetType = UNSET


Item = (
    MessageItem
    | FunctionCallItem
    | CustomToolCallItem
    | LocalShellCallItem
    | ShellCallItem
    | ApplyPatchCallItem
    | ToolSearchCallItem
    | ReasoningItem
)


# The types of the response object and its fields


class ResponseError(Struct):
    """The reason why a response failed."""

    code: str
    message: str


class Incomplete(Struct):
    """The reason why a response is incomplete."""

    reason: str


class Usage(Struct):
    """The token counts from the provider, or an estimate."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: dict[str, int] | UnsetType = UNSET
    output_tokens_details: dict[str, int] | UnsetType = UNSET


class Timing(Struct):
    """Durations in milliseconds; see "The `holdline` object" in docs/protocol.md."""

    queued_ms: int | UnsetType = UNSET
    first_token_ms: int | UnsetType = UNSET
    model_ms: int | UnsetType = UNSET
    total_ms: int | UnsetType = UNSET


class Trailer(Struct):
    """The checksum of an ended response's text, its timing and its attempts."""

    attempts: int
    sha256: str
    bytes: int
    timing: Timing
    model: str | UnsetType = UNSET
    error_code: str | UnsetType = UNSET
    dropped_tools: list[str] | UnsetType = UNSET
    dropped_items: list[str] | UnsetType = UNSET
    void_calls: list[str] | UnsetType = UNSET
    successor_id: str | UnsetType = UNSET
    pending_steers: int | UnsetType = UNSET


class InConversation(Struct):
    """The conversation of a response."""

    id: str


class Response(Struct, kw_only=True):
    """The response object."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
    error: ResponseError | None
    incomplete_details: Incomplete | None
    model: str
    previous_response_id: str | None
    instructions: str | None
    output: list[Item]
    tools: list[dict[str, Any]]
    tool_choice: str | dict[str, Any]
    parallel_tool_calls: bool
    text: dict[str, Any]
    reasoning: dict[str, Any] | None
    temperature: float
    top_p: float
    presence_penalty: float
    frequency_penalty: float
    top_logprobs: int
    max_output_tokens: int | None
    max_tool_calls: int | None
    truncation: Literal["auto", "disabled"]
    store: bool
    background: bool
    service_tier: str
    metadata: dict[str, str]
    user: str | None
    safety_identifier: str | None
    prompt_cache_key: str | None
    usage: Usage | None
    prompt: dict[str, Any] | UnsetType = UNSET
    conversation: InConversation | UnsetType = UNSET
    prompt_cache_options: dict[str, Any] | UnsetType = UNSET
    prompt_cache_retention: str | UnsetType = UNSET
    image: dict[str, Any] | UnsetType = UNSET
    # The following members contain results of the model's provider.
    access_programs: dict[str, Any] | UnsetType = UNSET
    moderation: dict[str, Any] | UnsetType = UNSET
    input_transformations: list[Any] | UnsetType = UNSET
    prompt_cache_diagnostics: dict[str, Any] | UnsetType = UNSET
    tool_usage: dict[str, Any] | UnsetType = UNSET
    holdline: Trailer | UnsetType = UNSET
