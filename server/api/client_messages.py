"""The types of the messages that clients send over a socket, and their validation."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from runtime import trace_context

from .items import InputFile, InputImage, InputText
from .problem import Problem, invalid
from .request import CREATE_FIELDS, Create, Key, ResponseId, check, known_members
from .validation import convert

LANE_PATTERN: Final = r"^[A-Za-z0-9_.-]{1,256}\Z"
Lane = Annotated[str, Meta(pattern=LANE_PATTERN)]
SequenceNumber = Annotated[int, Meta(ge=-1, le=2**53)]
ConversationId = Annotated[str, Meta(max_length=128)]
EventItemId = Annotated[str, Meta(max_length=128)]
EventType = Annotated[str, Meta(max_length=128)]


class ResponseCreate(Create, tag_field="type", tag="response.create", kw_only=True):
    """A message that creates a response over a socket, optionally on a lane."""

    stream_id: Lane | None = None
    generate: bool | None = None


class SteerMessage(msgspec.Struct, forbid_unknown_fields=True):
    """A user message with which a client steers a response."""

    role: Literal["user"]
    content: str | Annotated[list[InputText | InputImage | InputFile], Meta(min_length=1)]
    type: Literal["message"] = "message"
    id: Annotated[str, Meta(max_length=128)] | None = None
    status: Annotated[str, Meta(max_length=32)] | None = None


class SteerOptions(msgspec.Struct, forbid_unknown_fields=True):
    """Holdline's own options of a steer."""

    idempotency_key: Key | None = None


class ResponseSteer(
    msgspec.Struct, tag_field="type", tag="response.steer", forbid_unknown_fields=True
):
    """Adds user input to an unfinished response, which a successor then continues."""

    previous_response_id: ResponseId
    input: (
        Annotated[str, Meta(min_length=1)]
        | Annotated[list[SteerMessage], Meta(min_length=1, max_length=64)]
    )
    holdline: SteerOptions | None = None
    client_metadata: dict[str, Any] | None = None


class ResponseCancel(msgspec.Struct, tag_field="type", tag="response.cancel"):
    """Cancels a response; the response's terminal event confirms it."""

    response_id: ResponseId
    stream_id: Lane | None = None
    client_metadata: dict[str, Any] | None = None


class Resume(msgspec.Struct, tag_field="type", tag="holdline:resume"):
    """Requests all events after a sequence number; -1 requests all events.

    `event_type` is the type of the event with that number; `item_id` is the id of its item, or ""
    if the event belongs to no item.
    """

    response_id: ResponseId
    starting_after: SequenceNumber = -1
    item_id: EventItemId | None = None
    event_type: EventType | None = None
    include_obfuscation: bool | None = None
    stream_id: Lane | None = None
    client_metadata: dict[str, Any] | None = None


class FollowConversation(msgspec.Struct, tag_field="type", tag="holdline:follow"):
    """Requests the state of a conversation, its events after a cursor, and later events.

    Without `conversation`, the events are those of the list of all conversations of the end user.
    The cursor consists of the number and the id of the last event that the client has. Without
    `starting_after`, the client gets the state and later events.
    """

    conversation: ConversationId | None = None
    starting_after: SequenceNumber | None = None
    event_id: Annotated[str, Meta(max_length=128)] | None = None


class UnfollowConversation(msgspec.Struct, tag_field="type", tag="holdline:unfollow"):
    """Ends the effect of `holdline:follow`."""

    conversation: ConversationId | None = None


class MarkRead(msgspec.Struct, tag_field="type", tag="holdline:read"):
    """Records that the end user has read the events of a conversation up to a sequence number."""

    conversation: ConversationId
    sequence_number: Annotated[int, Meta(ge=0, le=2**53)]


class Console(msgspec.Struct, tag_field="type", tag="holdline:console"):
    """Requests the state of the service, and the timeline of one response, until the socket ends.

    A later message replaces an earlier one. `response_id` is null to receive no timeline.
    """

    response_id: ResponseId | None = None


class Ping(msgspec.Struct, tag_field="type", tag="holdline:ping"):
    """Requests a pong message from the server."""

    id: str | int | None = None


class Auth(msgspec.Struct, tag_field="type", tag="holdline:auth"):
    """Provides a fresh token for this socket."""

    token: Annotated[str, Meta(max_length=16_384)]


# The key in `client_metadata` for the trace context of a WebSocket message. The standard's clients
# put there what would be a header of a request: a message of a WebSocket has no headers.
MESSAGE_TRACEPARENT: Final = "ws_request_header_traceparent"
AUTH: Final = "holdline:auth"
CREATE: Final = "response.create"
CANCEL: Final = "response.cancel"
STEER: Final = "response.steer"
FOLLOW: Final = "holdline:follow"
UNFOLLOW: Final = "holdline:unfollow"
READ: Final = "holdline:read"
ConversationMessage = FollowConversation | UnfollowConversation | MarkRead
ClientMessage = (
    ResponseCreate
    | ResponseSteer
    | ResponseCancel
    | Resume
    | ConversationMessage
    | Console
    | Ping
    | Auth
)

_ENVELOPE: Final = frozenset({"type", "stream_id", "generate"})

_LANE: Final = re.compile(LANE_PATTERN)
# The maximum length of an id that an error repeats.
MAX_NAME: Final = 128
MESSAGE_TYPES: Final[dict[str, type[ClientMessage]]] = {
    CREATE: ResponseCreate,
    STEER: ResponseSteer,
    CANCEL: ResponseCancel,
    "holdline:resume": Resume,
    FOLLOW: FollowConversation,
    UNFOLLOW: UnfollowConversation,
    READ: MarkRead,
    "holdline:console": Console,
    "holdline:ping": Ping,
    AUTH: Auth,
}


def message_traceparent(metadata: object) -> str:
    """Returns the trace context in the `client_metadata` of a message, or ""."""
    given = metadata.get(MESSAGE_TRACEPARENT) if isinstance(metadata, dict) else None
    return trace_context.parsed(given)


def named_in(body: dict[str, Any]) -> dict[str, str | None]:
    """Returns the lane, the response and the conversation that a message names.

    An error repeats them, so that the client knows which message was refused. The message may be
    invalid; a field whose value has a wrong type is left out. `conversation` is None for the list
    of all conversations.
    """
    kind, named = body.get("type"), dict[str, str | None]()
    lane = body.get("stream_id")
    if isinstance(lane, str) and is_lane(lane):
        named["stream_id"] = lane
    response_id = body.get("previous_response_id" if kind == STEER else "response_id")
    if isinstance(response_id, str):
        named["response_id"] = response_id[:MAX_NAME]
    if kind in (FOLLOW, UNFOLLOW, READ):
        conversation = body.get("conversation")
        if isinstance(conversation, str):
            named["conversation"] = conversation[:MAX_NAME]
        elif conversation is None and kind != READ:
            named["conversation"] = None
    return named


def is_lane(name: str) -> bool:
    """Returns True if a lane may have this name."""
    return _LANE.match(name) is not None


def parse_message(message: dict[str, Any]) -> ClientMessage:
    """Validates a message from a socket and returns it as the struct for its type.

    Raises: Problem, which names the field.
    """
    kind = message.get("type")
    if not isinstance(kind, str):
        raise invalid(
            "type", "'type' is required, and must be a string.", "missing_required_parameter"
        )
    if kind not in MESSAGE_TYPES:
        known = ", ".join(sorted(MESSAGE_TYPES))
        raise invalid("type", f"Unknown type '{kind[:64]}'. Known types: {known}.", "unknown_type")
    if kind == "response.create":
        message = known_members(message, CREATE_FIELDS | _ENVELOPE)
        if message.get("background"):
            raise invalid(
                "background",
                "Parameter 'background' is not supported over WebSocket, where every response "
                "outlives its socket. Leave it out.",
                "unsupported_parameter",
            )
    try:
        converted = convert(message, MESSAGE_TYPES[kind])
    except Problem as problem:
        if problem.param != "stream_id":
            raise
        raise invalid(
            "stream_id",
            "'stream_id' must be 1 to 256 letters, digits, underscores, hyphens or periods.",
            "invalid_stream_id",
        ) from None
    if isinstance(converted, ResponseCreate):
        check(converted, message)
    return converted
