"""The bodies and messages that clients send, as types; what is wrong with one, as a `Problem`.

A parameter of the standard that is not supported yet is accepted where it changes nothing, and
refused by name where it would: never ignored in silence.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from .problem import Problem, invalid

LANE_PATTERN: Final = r"^[A-Za-z0-9_.-]{1,256}\Z"
Lane = Annotated[str, Meta(pattern=LANE_PATTERN)]
Key = Annotated[str, Meta(min_length=1, max_length=255)]
ResponseId = Annotated[str, Meta(max_length=128)]
SequenceNumber = Annotated[int, Meta(ge=-1, le=2**53)]
Role = Literal["user", "assistant", "system", "developer"]


class InputText(msgspec.Struct, tag_field="type", tag="input_text", forbid_unknown_fields=True):
    """Text that the caller says."""

    text: str


class OutputText(msgspec.Struct, tag_field="type", tag="output_text"):
    """Text that a model said earlier; its annotations are not read back."""

    text: str


class Message(msgspec.Struct):
    """One message of the input. What a client keeps of our own output items fits too."""

    role: Role
    content: str | list[InputText | OutputText]
    type: Literal["message"] = "message"
    id: str | None = None
    status: str | None = None


class Create(msgspec.Struct, kw_only=True):
    """The body of `POST /v1/responses` and of `response.create`."""

    input: str | list[Message]
    model: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    instructions: str | None = None
    previous_response_id: ResponseId | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
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
    user: Annotated[str, Meta(max_length=512)] | None = None
    safety_identifier: Annotated[str, Meta(max_length=512)] | None = None
    idempotency_key: Key | None = None


class ResponseCreate(Create, tag_field="type", tag="response.create", kw_only=True):
    """A `Create` on a lane of a socket."""

    stream_id: Lane | None = None


class ResponseCancel(msgspec.Struct, tag_field="type", tag="response.cancel"):
    """Ends a response; its terminal event is the confirmation."""

    response_id: ResponseId
    stream_id: Lane | None = None


class Resume(msgspec.Struct, tag_field="type", tag="holdline:resume"):
    """Asks for everything after a sequence number; -1 is everything."""

    response_id: ResponseId
    starting_after: SequenceNumber = -1
    stream_id: Lane | None = None


class Ping(msgspec.Struct, tag_field="type", tag="holdline:ping"):
    """Asks for a pong."""

    id: str | int | None = None


class Auth(msgspec.Struct, tag_field="type", tag="holdline:auth"):
    """A fresh token for this socket."""

    token: Annotated[str, Meta(max_length=16_384)]


_T = TypeVar("_T")
ClientMessage = ResponseCreate | ResponseCancel | Resume | Ping | Auth

_CREATE_FIELDS: Final = frozenset(Create.__struct_fields__)
_ENVELOPE: Final = frozenset({"type", "stream_id"})

# The standard's parameters that are not supported yet, each with the values that change nothing.
_NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "background_options": (),
    "access_programs": (),
    "context_management": ([],),
    "conversation": (),
    "frequency_penalty": (0,),
    "image": (),
    "include": ([],),
    "max_tool_calls": (),
    "moderation": (),
    "parallel_tool_calls": (True, False),
    "presence_penalty": (0,),
    "prompt": (),
    "prompt_cache_key": (),
    "prompt_cache_options": (),
    "prompt_cache_retention": (),
    "reasoning": ({},),
    "service_tier": ("auto", "default"),
    "stream_options": ({}, {"include_obfuscation": False}),
    "text": ({}, {"format": {"type": "text"}}),
    "tool_choice": ("auto", "none"),
    "tools": ([],),
    "top_logprobs": (0,),
    "truncation": ("disabled",),
}

_PATH = re.compile(r"^(?P<what>.*?)(?: - at `(?:key` in `)?(?P<path>\$.*)`)?$", re.DOTALL)


def parse_json(data: bytes | str) -> dict[str, Any]:
    """The JSON object of a body or message.

    Raises: Problem.
    """
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        why = str(error) if isinstance(error, msgspec.DecodeError) else "nested too deeply"
        raise invalid(None, f"This is not valid JSON: {why}", "invalid_json") from None
    if not isinstance(value, dict):
        raise invalid(None, "A JSON object is expected here.", "invalid_json")
    return value


def parse_create(body: dict[str, Any]) -> Create:
    """The request of an HTTP body.

    Raises: Problem, which names the field.
    """
    return _convert(_without_neutral(body, _CREATE_FIELDS), Create)


def parse_message(message: dict[str, Any]) -> ClientMessage:
    """The message of a socket.

    Raises: Problem, which names the field.
    """
    kind = message.get("type")
    if not isinstance(kind, str):
        raise invalid("type", "Every message needs a `type`.", "missing_required_parameter")
    if kind not in _KINDS:
        known = ", ".join(sorted(_KINDS))
        raise invalid("type", f"Unknown type '{kind[:64]}'. Known: {known}.", "unknown_type")
    if kind == "response.create":
        message = _without_neutral(message, _CREATE_FIELDS | _ENVELOPE)
        if message.get("background"):
            raise _unsupported("background", " over WebSocket: every response survives its socket")
    return _convert(message, _KINDS[kind])


_KINDS: Final[dict[str, type[ClientMessage]]] = {
    "response.create": ResponseCreate,
    "response.cancel": ResponseCancel,
    "holdline:resume": Resume,
    "holdline:ping": Ping,
    "holdline:auth": Auth,
}


def input_items(create: Create, make_id: Any) -> list[dict[str, Any]]:
    """The input as the standard's message items, each with an id from `make_id(index)`."""
    messages = create.input
    if isinstance(messages, str):
        messages = [Message(role="user", content=messages)]
    return [
        {
            "id": make_id(index),
            "type": "message",
            "status": "completed",
            "role": message.role,
            "content": _parts(message),
        }
        for index, message in enumerate(messages)
    ]


def _parts(message: Message) -> list[dict[str, Any]]:
    if isinstance(message.content, str):
        kind = "output_text" if message.role == "assistant" else "input_text"
        return [_part(kind, message.content)]
    return [
        _part("input_text" if isinstance(part, InputText) else "output_text", part.text)
        for part in message.content
    ]


def _part(kind: str, text: str) -> dict[str, Any]:
    part: dict[str, Any] = {"type": kind, "text": text}
    return part | {"annotations": [], "logprobs": []} if kind == "output_text" else part


def params_of(create: Create, default_model: str) -> dict[str, Any]:
    """What is stored of a request: every parameter that was given, and the model.

    Raises: Problem where no model is named anywhere.
    """
    model = create.model or default_model
    if not model:
        raise invalid(
            "model", "Name a `model`; this server has no default.", "missing_required_parameter"
        )
    given = msgspec.structs.asdict(create)
    left_out = {"input", "stream", "idempotency_key", "stream_id"}
    params = {k: v for k, v in given.items() if v is not None and k not in left_out}
    return params | {"model": model}


def _without_neutral(body: dict[str, Any], supported: frozenset[str]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in body.items():
        if name in supported:
            kept[name] = value
        elif name not in _NEUTRAL:
            raise invalid(name, f"Unknown parameter: '{name[:64]}'.", "unknown_parameter")
        elif value is not None and value not in _NEUTRAL[name]:
            raise _unsupported(name)
    return kept


def _unsupported(name: str, where: str = "") -> Problem:
    message = f"Parameter '{name}' is not supported here{where}. Leave it out."
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
    return invalid(param, f"Invalid value for '{param}': {what[:1].lower()}{what[1:]}.")
