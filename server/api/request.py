"""The type of a request that creates a response, and its validation.

A request with an unknown parameter is refused with an error that names the parameter. No parameter
is silently ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from jobs.ids import RESPONSE_ID
from jobs.tools import SOURCES

from .call_items import check_items
from .items import (
    InputFile,
    InputImage,
    InputText,
    Item,
    Message,
    Opaque,
    Passed,
    typed,
    without_nulls,
)
from .problem import invalid
from .tools import MAX_NESTED_TOOLS, MAX_TOOLS, ToolSource, checked_choice, checked_tools
from .validation import check_storable, convert

Key = Annotated[str, Meta(min_length=1, max_length=255)]
ResponseId = Annotated[str, Meta(max_length=128)]
StopWord = Annotated[str, Meta(min_length=1, max_length=256)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
SchemaName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
# The reasoning effort is passed on unchecked, because models have different levels, and new levels
# appear.
Effort = Annotated[str, Meta(min_length=1, max_length=32)]
Summary = Literal["auto", "concise", "detailed"]
ServiceTier = Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"]
# Maps a service tier to the tier that a response shows. It is the job's place in the queue.
_SERVED_TIERS: Final = {
    "auto": "default",
    "scale": "default",
    "fast": "priority",
    "ultrafast": "priority",
}
# Values of later versions of the standard are passed on too.
Included = Annotated[str, Meta(pattern=r"^[a-z][A-Za-z0-9_.]{0,127}\Z")]


class TextFormat(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    """The text format for plain text."""


class JsonObject(msgspec.Struct, tag_field="type", tag="json_object"):
    """The text format for any JSON object."""


class JsonSchema(Opaque, tag_field="type", tag="json_schema"):
    """The text format for JSON that conforms to a schema."""

    name: SchemaName
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class Text(msgspec.Struct, forbid_unknown_fields=True):
    """The format and verbosity of the answer's text."""

    format: TextFormat | JsonObject | JsonSchema = TextFormat()
    verbosity: Literal["low", "medium", "high"] | None = None


class ReasoningEffort(msgspec.Struct, omit_defaults=True):
    """The members of `reasoning` that Holdline reads; other members are passed on unread."""

    effort: Effort | None = None
    summary: Summary | None = None
    # `generate_summary` is the older name of `summary`.
    generate_summary: Summary | None = None


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """The options of a stream of events."""

    include_obfuscation: bool = False


class BackgroundOptions(msgspec.Struct, forbid_unknown_fields=True):
    """Options for background responses, which are hints without effect."""

    completion_window: Literal["soonest"] = "soonest"
    continuation_id: Annotated[str, Meta(max_length=512)] | None = None


class CacheOptions(msgspec.Struct):
    """The members of `prompt_cache_options` that Holdline reads; others are passed on unread."""

    prewarm: bool | None = None


Variable = str | InputText | InputImage | InputFile


class Prompt(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A prompt template of this server, and the values of its variables."""

    id: Annotated[str, Meta(min_length=1, max_length=128)]
    variables: Annotated[dict[str, Variable], Meta(max_length=64)] | None = None
    version: Annotated[str, Meta(max_length=64)] | None = None


class InConversation(msgspec.Struct, forbid_unknown_fields=True):
    """The conversation to which a response belongs."""

    id: ResponseId


class OwnOptions(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Holdline's own options of a request.

    `previous_response_id` names the turn of the conversation that the request continues. If it is
    null, the request continues the items before the first turn.
    """

    previous_response_id: ResponseId | msgspec.UnsetType | None = msgspec.UNSET


class ContextManagement(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Compacts the conversation above a number of input tokens, or if it is too long."""

    type: Literal["compaction"]
    compact_threshold: Annotated[int, Meta(ge=1000, le=100_000_000)] | None = None


class Create(msgspec.Struct, kw_only=True):
    """The body of `POST /v1/responses` and of `response.create`."""

    # `input` may be empty, because a prompt template can contain the whole input.
    input: str | list[Item] = ""
    prompt: Prompt | None = None
    model: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    instructions: str | None = None
    previous_response_id: ResponseId | None = None
    conversation: ResponseId | InConversation | None = None
    context_management: Annotated[list[ContextManagement], Meta(max_length=16)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Annotated[list[dict[str, Any]], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["auto", "none", "required"] | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: Annotated[int, Meta(ge=1, le=10_000_000)] | None = None
    text: Text | None = None
    reasoning: dict[str, Any] | None = None
    include: Annotated[list[Included], Meta(max_length=64)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    max_output_tokens: Annotated[int, Meta(ge=1, le=10_000_000)] | None = None
    metadata: (
        Annotated[
            dict[
                Annotated[str, Meta(max_length=64)],
                Annotated[str, Meta(max_length=512)],
            ],
            Meta(max_length=16),
        ]
        | None
    ) = None
    store: bool | None = None
    stream: bool | None = None
    background: bool | None = None
    stream_options: StreamOptions | None = None
    background_options: BackgroundOptions | None = None
    service_tier: ServiceTier | None = None
    user: Annotated[str, Meta(max_length=512)] | None = None
    safety_identifier: Annotated[str, Meta(max_length=512)] | None = None
    prompt_cache_key: Annotated[str, Meta(max_length=512)] | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: Annotated[str, Meta(max_length=64)] | None = None
    client_metadata: dict[str, Any] | None = None
    access_programs: dict[str, Any] | None = None
    image: dict[str, Any] | None = None
    moderation: dict[str, Any] | None = None
    idempotency_key: Key | None = None
    holdline: OwnOptions | None = None
    holdline_stop: Annotated[list[StopWord], Meta(max_length=16)] | None = None
    holdline_seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None

    @property
    def obfuscated(self) -> bool:
        """True if the delta events for this client are padded."""
        return self.stream_options is not None and self.stream_options.include_obfuscation

    @property
    def items(self) -> list[Item]:
        """The items of `input`. A string is one message of the user."""
        if not isinstance(self.input, str):
            return self.input
        empty = not self.input and self.prompt is not None
        return [] if empty else [Message(role="user", content=self.input)]


CREATE_FIELDS: Final = frozenset(Create.__struct_fields__)

# The parameters that are passed on unread.
_UNREAD: Final = (
    "access_programs",
    "image",
    "moderation",
    "prompt_cache_options",
    "reasoning",
)


def parse_create(body: dict[str, Any]) -> Create:
    """Validates an HTTP body and returns the request in it.

    Raises: Problem, which names the field.
    """
    create = convert(known_members(body, CREATE_FIELDS), Create)
    check(create, body)
    return create


class _Keyed(msgspec.Struct):
    idempotency_key: Key


def check_key(value: Any) -> None:
    """Raises Problem if the value is not a valid idempotency key."""
    convert({"idempotency_key": value}, _Keyed)


def check(create: Create, body: dict[str, Any]) -> None:
    """Checks the values that the types do not express, and gives some their stored form.

    Raises: Problem.
    """
    check_items(create.items)
    if create.tools is not None:
        create.tools = checked_tools(create.tools)
    available = _available(create)
    if create.tool_choice is not None:
        create.tool_choice = checked_choice(create.tool_choice, available)
    for name in _UNREAD:
        check_storable(getattr(create, name), name)
    create.context_management = create.context_management or None
    if create.reasoning is not None:
        create.reasoning = _reasoning(create.reasoning)
    if create.prompt_cache_options is not None:
        convert(create.prompt_cache_options, CacheOptions, "prompt_cache_options")
    if body.get("input") is None and create.prompt is None:
        raise invalid("input", "'input' is required.", "missing_required_parameter")
    if create.previous_response_id is not None and create.conversation is not None:
        raise invalid(
            "conversation",
            "'previous_response_id' and 'conversation' exclude each other. Send only one of them.",
            "mutually_exclusive_parameters",
        )
    own = create.holdline.previous_response_id if create.holdline else msgspec.UNSET
    if own is not msgspec.UNSET and create.conversation is None:
        raise invalid(
            "holdline.previous_response_id",
            "'holdline.previous_response_id' names a turn of a conversation, so 'conversation' is "
            "required. Without a conversation, use 'previous_response_id'.",
            "missing_required_parameter",
        )
    if isinstance(own, str) and RESPONSE_ID.fullmatch(own) is None:
        raise invalid(
            "holdline.previous_response_id",
            f"'{own[:64]}' is not the id of a response in this conversation.",
            "previous_response_not_found",
        )


def _available(create: Create) -> list[dict[str, Any]]:
    """Returns the tools of the request, including those in its input items. Raises: Problem."""
    tools = list(create.tools or ())
    for index, item in enumerate(create.items):
        if isinstance(item, Passed) and item.fields["type"] in SOURCES:
            found = convert(item.fields, ToolSource, f"input[{index}]")
            if len(tools) + len(found.tools) > MAX_NESTED_TOOLS:
                message = f"At most {MAX_NESTED_TOOLS} tools are allowed, including those in items."
                raise invalid(f"input[{index}].tools", message)
            tools += checked_tools(found.tools, f"input[{index}].tools")
    return tools


def _reasoning(given: dict[str, Any]) -> dict[str, Any]:
    known = convert(given, ReasoningEffort, "reasoning")
    others = {name: value for name, value in given.items() if name != "generate_summary"}
    summary = known.summary or known.generate_summary
    return {**others, "effort": known.effort, "summary": summary}


# The members of a request that are not stored with its job.
_NOT_STORED: Final = frozenset(
    {
        "type",
        "input",
        "stream",
        "stream_options",
        "idempotency_key",
        "stream_id",
        "generate",
        "background_options",
        "client_metadata",
    }
)


def params_of(create: Create, default_model: str) -> dict[str, Any]:
    """Returns the parameters to store for a request: all given parameters, and the model.

    Raises: Problem if the request names no model and the server has no default.
    """
    model = create.model or default_model
    if not model:
        message = "'model' is required, because this server has no default model."
        raise invalid("model", message, "missing_required_parameter")
    given = msgspec.to_builtins(create)
    params = {k: v for k, v in given.items() if v is not None and k not in _NOT_STORED}
    if (tier := params.get("service_tier")) is not None:
        # A response shows the service tier that was used.
        params["service_tier"] = _SERVED_TIERS.get(tier, tier)
    if not params.get("holdline"):
        params.pop("holdline", None)
    if isinstance(conversation := params.get("conversation"), str):
        params["conversation"] = {"id": conversation}
    return params | {"model": model}


def prewarms(create: Create) -> bool:
    """Returns True if the request only prepares the provider's cache, without any output."""
    return bool((create.prompt_cache_options or {}).get("prewarm"))


def known_members(body: dict[str, Any], supported: frozenset[str]) -> dict[str, Any]:
    """Returns the members that are not null. Raises: Problem for one that is not in `supported`."""
    kept: dict[str, Any] = {}
    for name, given in body.items():
        if name in supported:
            # Tools are kept as the client sent them.
            value = given if name == "tools" else _given(name, given)
            if value is not None:
                kept[name] = value
        else:
            raise invalid(name, f"Unknown parameter: '{name[:64]}'.", "unknown_parameter")
    return kept


def _given(name: str, given: Any) -> Any:
    if name == "input":
        return typed(given)
    # In Holdline's own options, null has a meaning.
    value = given if name == "holdline" else without_nulls(given)
    return None if name == "stream_options" and value == {} else value
