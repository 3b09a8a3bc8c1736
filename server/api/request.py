"""The types of clients' request bodies and messages, and their validation.

An unsupported parameter of the standard is accepted if its value has no effect. Otherwise the
request is refused with an error that names the parameter. No parameter is silently ignored.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from .items import (
    FunctionName,
    InputFile,
    InputImage,
    InputText,
    Item,
    Opaque,
    typed,
    without_nulls,
)
from .problem import Problem, invalid

LANE_PATTERN: Final = r"^[A-Za-z0-9_.-]{1,256}\Z"
Lane = Annotated[str, Meta(pattern=LANE_PATTERN)]
Key = Annotated[str, Meta(min_length=1, max_length=255)]
ResponseId = Annotated[str, Meta(max_length=128)]
SequenceNumber = Annotated[int, Meta(ge=-1, le=2**53)]
EventItemId = Annotated[str, Meta(max_length=128)]
EventType = Annotated[str, Meta(max_length=128)]
StopWord = Annotated[str, Meta(min_length=1, max_length=256)]
MAX_TOOLS: Final = 128
# Limits for a body or message, in JSON and in MessagePack: the nesting depth of arrays and objects,
# and the total number of values. A value of one or two bytes takes more memory and time than its
# size suggests.
MAX_DEPTH: Final = 64
MAX_VALUES: Final = 100_000
TOO_DEEP: Final = f"at most {MAX_DEPTH} levels of nesting are allowed"
TOO_MANY_VALUES: Final = f"at most {MAX_VALUES} values are allowed"
Penalty = Annotated[float, Meta(ge=-2, le=2)]
SchemaName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
# The reasoning effort is passed on unchecked, because models have different levels, and new levels
# appear.
Effort = Annotated[str, Meta(min_length=1, max_length=32)]
Summary = Literal["auto", "concise", "detailed"]
Included = Literal[
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    # The following `include` values concern tools that this server does not offer, so they have no
    # effect.
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
]


class FunctionTool(Opaque, tag_field="type", tag="function"):
    """A function that the model may call; `parameters` is a JSON schema."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionChoice(msgspec.Struct, tag_field="type", tag="function"):
    """The function that the model must call, or one of the functions that it may call."""

    name: FunctionName


class AllowedTools(msgspec.Struct, tag_field="type", tag="allowed_tools"):
    """The subset of the tools that the model may use for this request."""

    tools: Annotated[list[FunctionChoice], Meta(min_length=1, max_length=MAX_TOOLS)]
    mode: Literal["auto", "required"] = "auto"


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


class ReasoningEffort(msgspec.Struct, forbid_unknown_fields=True):
    """The model's reasoning effort, and the kind of reasoning summary to return."""

    effort: Effort | None = None
    summary: Summary | None = None
    # `generate_summary` is the older name of `summary`.
    generate_summary: Summary | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        """Moves `generate_summary` to `summary`, which takes precedence if both are given."""
        if self.summary is None and self.generate_summary is not msgspec.UNSET:
            self.summary = self.generate_summary
        self.generate_summary = msgspec.UNSET


Variable = str | InputText | InputImage | InputFile


class Prompt(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A prompt template of this server, and the values of its variables."""

    id: Annotated[str, Meta(min_length=1, max_length=128)]
    variables: Annotated[dict[str, Variable], Meta(max_length=64)] | None = None
    version: Annotated[str, Meta(max_length=64)] | None = None


class Create(msgspec.Struct, kw_only=True):
    """The body of `POST /v1/responses` and of `response.create`."""

    # `input` may be empty, because a prompt template can contain the whole input.
    input: str | list[Item] = ""
    prompt: Prompt | None = None
    model: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    instructions: str | None = None
    previous_response_id: ResponseId | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Annotated[list[FunctionTool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["auto", "none", "required"] | FunctionChoice | AllowedTools | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: Annotated[int, Meta(ge=1, le=10_000_000)] | None = None
    text: Text | None = None
    reasoning: ReasoningEffort | None = None
    include: list[Included] | None = None
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
    service_tier: Literal["auto", "default", "flex", "priority"] | None = None
    user: Annotated[str, Meta(max_length=512)] | None = None
    safety_identifier: Annotated[str, Meta(max_length=512)] | None = None
    prompt_cache_key: Annotated[str, Meta(max_length=512)] | None = None
    idempotency_key: Key | None = None
    holdline_stop: Annotated[list[StopWord], Meta(max_length=16)] | None = None
    holdline_seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None


class ResponseCreate(Create, tag_field="type", tag="response.create", kw_only=True):
    """A message that creates a response over a socket, optionally on a lane."""

    stream_id: Lane | None = None
    generate: bool | None = None


class ResponseCancel(msgspec.Struct, tag_field="type", tag="response.cancel"):
    """Cancels a response; the response's terminal event confirms it."""

    response_id: ResponseId
    stream_id: Lane | None = None


class Resume(msgspec.Struct, tag_field="type", tag="holdline:resume"):
    """Requests all events after a sequence number; -1 requests all events.

    `event_type` is the type of the event with that number; `item_id` is the id of its item, or ""
    if the event belongs to no item.
    """

    response_id: ResponseId
    starting_after: SequenceNumber = -1
    item_id: EventItemId | None = None
    event_type: EventType | None = None
    stream_id: Lane | None = None


class Ping(msgspec.Struct, tag_field="type", tag="holdline:ping"):
    """Requests a pong message from the server."""

    id: str | int | None = None


class Auth(msgspec.Struct, tag_field="type", tag="holdline:auth"):
    """Provides a fresh token for this socket."""

    token: Annotated[str, Meta(max_length=16_384)]


AUTH: Final = "holdline:auth"
_T = TypeVar("_T")
ClientMessage = ResponseCreate | ResponseCancel | Resume | Ping | Auth

_CREATE_FIELDS: Final = frozenset(Create.__struct_fields__)
_ENVELOPE: Final = frozenset({"type", "stream_id", "generate"})

# The standard's parameters that are not supported yet, each with the values that are accepted
# because they have no effect.
_NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "background_options": (),
    "access_programs": (),
    "context_management": ([],),
    "conversation": (),
    "image": (),
    "moderation": (),
    "prompt_cache_options": (),
    "prompt_cache_retention": (),
    "stream_options": ({}, {"include_obfuscation": False}),
}

# Matches half of a surrogate pair. If JavaScript cuts a string within an emoji, the string ends in
# such a half.
_HALF_PAIR: Final = re.compile(r"\\u[dD][89abAB][\da-fA-F]{2}(?!\\u[dD][c-fC-F])")
_PATH = re.compile(r"^(?P<what>.*?)(?: - at `(?:key` in `)?(?P<path>\$.*)`)?$", re.DOTALL)


def parse_json(data: bytes | str) -> dict[str, Any]:
    """Decodes the JSON object of a body or message.

    Raises: Problem.
    """
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise _not_json(_reason(data, error)) from None
    except RecursionError:
        raise _not_json(TOO_DEEP) from None
    if not isinstance(value, dict):
        raise invalid(None, "The request must be a JSON object.", "invalid_json")
    # The nesting cannot be deeper than the number of opening brackets, and every value follows a
    # bracket or a comma. Counting these characters shows that most bodies are within the limits,
    # without a walk through their values.
    marks = ("{", "[", ",") if isinstance(data, str) else (b"{", b"[", b",")
    objects, arrays, commas = map(data.count, marks)  # type: ignore[arg-type]
    if objects + arrays > MAX_DEPTH or objects + arrays + commas > MAX_VALUES:
        _check_size(value)
    return value


def _not_json(why: str) -> Problem:
    return invalid(None, f"Invalid JSON: {why}.", "invalid_json")


def reason_of(error: Exception) -> str:
    """Returns the reason for a decoding error, in lower case, for use after a colon."""
    if isinstance(error, UnicodeError):
        return "the text is not valid UTF-8"
    what = str(error).rpartition(" is malformed: ")[2]
    return what[:1].lower() + what[1:]


def _reason(data: bytes | str, error: Exception) -> str:
    """Returns the reason for a decoding error. Corrects the reason for half a surrogate pair."""
    text = data if isinstance(data, str) else data.decode(errors="replace")
    half = _HALF_PAIR.search(text)
    if half and not isinstance(error, UnicodeError):
        return f"the escape sequence {half[0]} is an unpaired surrogate"
    return reason_of(error)


# The decoder creates only containers of the types dict and list, so comparing types is the fastest
# check.
_HOLDERS: Final = frozenset({dict, list})


def _check_size(value: Any) -> None:
    """Raises Problem if the value exceeds `MAX_DEPTH` or `MAX_VALUES`."""
    level, values = [value], 0
    for _ in range(MAX_DEPTH):
        values += sum(map(len, level))
        if values > MAX_VALUES:
            raise _not_json(TOO_MANY_VALUES)
        level = [
            inner
            for holder in level
            for inner in (holder.values() if type(holder) is dict else holder)
            if type(inner) in _HOLDERS
        ]
        if not level:
            return
    raise _not_json(TOO_DEEP)


def parse_create(body: dict[str, Any]) -> Create:
    """Validates an HTTP body and returns the request in it.

    Raises: Problem, which names the field.
    """
    create = _convert(_without_neutral(body, _CREATE_FIELDS), Create)
    check_input(create, body)
    check_tools(create)
    return create


class _Keyed(msgspec.Struct):
    idempotency_key: Key


def check_key(value: Any) -> None:
    """Raises Problem if the value is not a valid idempotency key."""
    _convert({"idempotency_key": value}, _Keyed)


def parse_message(message: dict[str, Any]) -> ClientMessage:
    """Validates a message from a socket and returns it as the struct for its type.

    Raises: Problem, which names the field.
    """
    kind = message.get("type")
    if not isinstance(kind, str):
        raise invalid(
            "type", "'type' is required, and must be a string.", "missing_required_parameter"
        )
    if kind not in _KINDS:
        known = ", ".join(sorted(_KINDS))
        raise invalid("type", f"Unknown type '{kind[:64]}'. Known types: {known}.", "unknown_type")
    if kind == "response.create":
        message = _without_neutral(message, _CREATE_FIELDS | _ENVELOPE)
        if message.get("background"):
            raise invalid(
                "background",
                "Parameter 'background' is not supported over WebSocket, where every response "
                "outlives its socket. Leave it out.",
                "unsupported_parameter",
            )
    try:
        converted = _convert(message, _KINDS[kind])
    except Problem as problem:
        if problem.param != "stream_id":
            raise
        raise invalid(
            "stream_id",
            "'stream_id' must be 1 to 256 letters, digits, underscores, hyphens or periods.",
            "invalid_stream_id",
        ) from None
    if isinstance(converted, ResponseCreate):
        check_input(converted, message)
        check_tools(converted)
    return converted


def check_input(create: Create, body: dict[str, Any]) -> None:
    """Raises Problem if `input` is missing, unless there is a prompt template."""
    if body.get("input") is None and create.prompt is None:
        raise invalid("input", "'input' is required.", "missing_required_parameter")


def check_tools(create: Create) -> None:
    """Raises Problem if `tool_choice` needs a tool that is not among the request's `tools`."""
    names = {tool.name for tool in create.tools or ()}
    match create.tool_choice:
        case "required" if not names:
            message = "'tool_choice' is 'required', but 'tools' is empty. Send at least one tool."
            raise invalid("tool_choice", message)
        case FunctionChoice(name=name) if name not in names:
            raise _no_such_tool("tool_choice.name", name)
        case AllowedTools(tools=tools):
            for index, tool in enumerate(tools):
                if tool.name not in names:
                    raise _no_such_tool(f"tool_choice.tools[{index}].name", tool.name)
        case _:
            pass


def _no_such_tool(place: str, name: str) -> Problem:
    return invalid(place, f"Function '{name}' is not in 'tools'. Add it, or name another one.")


_KINDS: Final[dict[str, type[ClientMessage]]] = {
    "response.create": ResponseCreate,
    "response.cancel": ResponseCancel,
    "holdline:resume": Resume,
    "holdline:ping": Ping,
    AUTH: Auth,
}


def params_of(create: Create, default_model: str) -> dict[str, Any]:
    """Returns the parameters to store for a request: all given parameters, and the model.

    Raises: Problem if the request names no model and the server has no default.
    """
    model = create.model or default_model
    if not model:
        message = "'model' is required, because this server has no default model."
        raise invalid("model", message, "missing_required_parameter")
    given = msgspec.to_builtins(create)
    left_out = {"type", "input", "stream", "idempotency_key", "stream_id", "generate"}
    params = {k: v for k, v in given.items() if v is not None and k not in left_out}
    if params.get("service_tier") == "auto":
        params["service_tier"] = "default"  # A response shows the service tier that was used.
    return params | {"model": model}


def _without_neutral(body: dict[str, Any], supported: frozenset[str]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, given in body.items():
        value = without_nulls(given)
        if name in supported:
            if value is not None:
                kept[name] = typed(value) if name == "input" else value
        elif name not in _NEUTRAL:
            raise invalid(name, f"Unknown parameter: '{name[:64]}'.", "unknown_parameter")
        elif value is not None and value not in _NEUTRAL[name]:
            raise _unsupported(name)
    return kept


def _unsupported(name: str) -> Problem:
    message = f"Parameter '{name}' is not supported. Leave it out."
    return invalid(name, message, "unsupported_parameter")


def _convert(body: dict[str, Any], kind: type[_T]) -> _T:
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise _from_validation(str(error)) from None


def _from_validation(text: str) -> Problem:
    match = _PATH.match(text)
    what, path = (match["what"], match["path"]) if match else (text, None)
    param = (path or "").removeprefix("$").lstrip(".") or None
    if missing := re.search(r"missing required field `(\w+)`", what):
        param = f"{param}.{missing[1]}" if param else missing[1]
        return invalid(param, f"'{param}' is required.", "missing_required_parameter")
    what = re.sub("^Invalid (?:enum )?value ('.*')$", r"\1 is not supported", what)
    return invalid(param, f"Invalid value for '{param}': {what[:1].lower()}{what[1:]}.")
