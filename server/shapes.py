"""What goes out, as types: the objects of the standard, and ours.

The server writes JSON from the log as it is; nothing here is built on the way. The types are what
`documents` makes its schemas from, and the tests hold real answers against them.
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from .request import Lane

ItemStatus = Literal["in_progress", "completed", "incomplete"]


# Parts


class TextPart(Struct, tag_field="type", tag="output_text"):
    """Text that the model said."""

    text: str
    annotations: list[dict[str, Any]] = []
    logprobs: list[dict[str, Any]] = []


class RefusalPart(Struct, tag_field="type", tag="refusal"):
    """What the model said in the place of an answer."""

    refusal: str


class ReasoningPart(Struct, tag_field="type", tag="reasoning_text"):
    """What the model thought."""

    text: str


class SummaryPart(Struct, tag_field="type", tag="summary_text"):
    """What the model thought, in short."""

    text: str


Part = TextPart | RefusalPart | ReasoningPart | SummaryPart


# Items


class MessageItem(Struct, tag_field="type", tag="message"):
    """A message of the model."""

    id: str
    role: Literal["assistant"]
    status: ItemStatus
    content: list[TextPart | RefusalPart]


class FunctionCallItem(Struct, tag_field="type", tag="function_call"):
    """A function that the caller is asked to call; `arguments` is JSON as the model wrote it."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: ItemStatus


class ReasoningItem(Struct, tag_field="type", tag="reasoning"):
    """What the model thought before it answered."""

    id: str
    summary: list[SummaryPart]
    content: list[ReasoningPart] | None = None
    encrypted_content: str | None = None
    status: ItemStatus | UnsetType = UNSET


Item = MessageItem | FunctionCallItem | ReasoningItem


# The response


class ResponseError(Struct):
    """Why a response failed."""

    code: str
    message: str


class Incomplete(Struct):
    """Why a response is incomplete."""

    reason: str


class Usage(Struct):
    """What the provider counted, or an estimate."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: dict[str, int] | UnsetType = UNSET
    output_tokens_details: dict[str, int] | UnsetType = UNSET


class Timing(Struct):
    """Milliseconds; see "The `holdline` object" in the protocol."""

    queued_ms: int | UnsetType = UNSET
    first_token_ms: int | UnsetType = UNSET
    model_ms: int | UnsetType = UNSET
    total_ms: int | UnsetType = UNSET


class Proof(Struct):
    """The proof of an ended response's text and the receipt of its time."""

    attempts: int
    sha256: str
    bytes: int
    timing: Timing
    model: str | UnsetType = UNSET


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
    holdline: Proof | UnsetType = UNSET


# The events of the log


class Numbered(Struct, kw_only=True):
    """An entry of a response's log. `stream_id` is there on a lane of a socket."""

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


# Messages that are in no log


class About(Struct, kw_only=True):
    """A message about one response."""

    response_id: str
    stream_id: Lane | UnsetType = UNSET


class TenantLimits(Struct):
    """What a tenant may, null where there is no limit."""

    sockets: int | None
    running: int | None
    waiting: int | None
    requests_per_minute: int | None
    tokens_per_day: int | None
    money_per_day: float | None
    input_tokens: int | None


class Limits(Struct):
    """What a socket may do at most."""

    message_bytes: int
    depth: int
    output_bytes: int
    sockets: int | None
    waiting: int
    responses: int
    waiting_in_lanes: int
    messages_per_second: int
    retention_seconds: float
    unstored_seconds: float
    connection_seconds: float | None
    tenant: TenantLimits


class Welcome(Struct):
    ping_interval_ms: int
    server_time: int
    limits: Limits


class Queued(About):
    position: int | None
    eta_seconds: float | None
    reason: str


class Pong(Struct):
    id: str | int | None
    responses: dict[str, int]


class Authenticated(Struct):
    """What was shown counts, for so many seconds more; null is no end."""

    expires_in_seconds: float | None
    scopes: list[Literal["create", "read", "cancel", "admin"]]
    tenant: TenantLimits


class Expiring(Struct):
    """The socket is closed so many seconds after the end of its token."""

    expires_in_seconds: float
    grace_seconds: float


class Degraded(Struct):
    degraded: bool


class Ended(About):
    sequence_number: int


class Draining(Struct):
    retry_after_ms: int


class Problem(Struct):
    """What was wrong, and what to do; `headers` is there in an event that has a `Retry-After`."""

    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    code: str
    message: str
    param: str | None
    headers: dict[str, str] | UnsetType = UNSET


class Refused(Struct, kw_only=True):
    status: int
    error: Problem
    stream_id: Lane | UnsetType = UNSET
    response_id: str | UnsetType = UNSET


def _named(kind: str) -> str:
    """The name of a type: `response.output_text.delta` is `ResponseOutputTextDelta`."""
    return "".join(word.capitalize() for word in re.split("[:._]", kind))


def _of(base: type[Struct], *kinds: str) -> dict[str, type[Struct]]:
    return {
        kind: msgspec.defstruct(
            _named(kind) if kind != "error" else "ErrorEvent",
            [],
            bases=(base,),
            tag_field="type",
            tag=kind,
            kw_only=True,
            namespace={"__doc__": base.__doc__},
        )
        for kind in kinds
    }


EVENTS: Final[dict[str, type[Struct]]] = {
    **_of(OfResponse, "response.created", "response.queued", "response.in_progress"),
    **_of(OfResponse, "response.completed", "response.incomplete", "response.failed"),
    **_of(OfItem, "response.output_item.added", "response.output_item.done"),
    **_of(OfPart, "response.content_part.added", "response.content_part.done"),
    **_of(TextDelta, "response.output_text.delta"),
    **_of(TextDone, "response.output_text.done"),
    **_of(AnnotationAdded, "response.output_text.annotation.added"),
    **_of(PartDelta, "response.refusal.delta", "response.reasoning_text.delta"),
    **_of(RefusalDone, "response.refusal.done"),
    **_of(ReasoningDone, "response.reasoning_text.done"),
    **_of(OfSummary, "response.reasoning_summary_part.added"),
    **_of(OfSummary, "response.reasoning_summary_part.done"),
    **_of(SummaryDelta, "response.reasoning_summary_text.delta"),
    **_of(SummaryDone, "response.reasoning_summary_text.done"),
    **_of(ArgumentsDelta, "response.function_call_arguments.delta"),
    **_of(ArgumentsDone, "response.function_call_arguments.done"),
    **_of(Restarted, "holdline:restarted"),
}
MESSAGES: Final[dict[str, type[Struct]]] = {
    **_of(Welcome, "holdline:welcome"),
    **_of(Queued, "holdline:queued"),
    **_of(Pong, "holdline:pong"),
    **_of(Authenticated, "holdline:authenticated"),
    **_of(Expiring, "holdline:expiring"),
    **_of(Degraded, "holdline:degraded"),
    **_of(Ended, "holdline:ended"),
    **_of(Draining, "holdline:draining"),
    **_of(Refused, "error"),
}


# Answers over HTTP


class ErrorBody(Struct):
    """The body of every status from 400 on."""

    error: Problem


class Deleted(Struct):
    id: str
    object: Literal["response"]
    deleted: Literal[True]


class Subject(Struct):
    """Which response a webhook tells of."""

    id: str


class WebhookEvent(Struct):
    """The body of a webhook: a response has ended."""

    id: str
    object: Literal["event"]
    created_at: int
    type: Literal[
        "response.completed", "response.failed", "response.incomplete", "response.cancelled"
    ]
    data: Subject


class InputItems(Struct):
    """A page of the input."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Model(Struct):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Models(Struct):
    object: Literal["list"]
    data: list[Model]


class Live(Struct):
    status: Literal["ok"]


class Ready(Struct):
    status: Literal["ready", "not ready"]
    redis: bool
    bell: bool
    draining: bool


class Standing(Struct):
    """Whether a site may use the server, and the setting that says so."""

    origin: str | None
    allowed: bool
    setting: str
