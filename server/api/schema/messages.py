"""The types of the messages that a socket's client receives besides log events."""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import UNSET, Struct, UnsetType

from server.api.client_messages import Lane

from .console import State, Timeline
from .conversations import CONVERSATION_MESSAGES
from .tagged import tagged


class About(Struct, kw_only=True):
    """A message to a client about one response."""

    response_id: str
    stream_id: Lane | UnsetType = UNSET


class TenantLimits(Struct):
    """The limits of a tenant; null means no limit."""

    sockets: int | None
    running: int | None
    waiting: int | None
    waiting_bytes: int | None
    requests_per_minute: int | None
    tokens_per_day: int | None
    money_per_day: float | None
    input_tokens: int | None
    subject_running: int | None
    subject_requests_per_minute: int | None
    subject_tokens_per_day: int | None
    subject_money_per_day: float | None


class Limits(Struct):
    """The limits that apply to a socket."""

    message_bytes: int
    depth: int
    output_bytes: int
    sockets: int | None
    waiting: int
    responses: int
    conversations: int
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
    """`responses` is missing on a WebSocket for AG-UI, which follows one response."""

    id: str | int | None
    responses: dict[str, int] | UnsetType = UNSET


class Authenticated(Struct):
    """The credential was accepted. It expires after `expires_in_seconds`, or never if null."""

    expires_in_seconds: float | None
    scopes: list[Literal["create", "read", "cancel", "admin", "operator", "contents"]]
    tenant: TenantLimits


class Expiring(Struct):
    """The token expires soon. The socket is closed `grace_seconds` after its expiry."""

    expires_in_seconds: float
    grace_seconds: float


class Degraded(Struct):
    degraded: bool


class Ended(About):
    sequence_number: int


class ProblemDetail(Struct):
    """Our own error code, present if it is more specific than the standard's error code."""

    error_code: str


class Problem(Struct):
    """The standard's error object.

    In an event, `headers` holds the headers that an HTTP response would have, if there are any.
    `response_id` names the response that the request created, which is still running.
    """

    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    code: str
    message: str
    param: str | None
    holdline: ProblemDetail | UnsetType = UNSET
    response_id: str | UnsetType = UNSET
    headers: dict[str, str] | UnsetType = UNSET


class Refused(Struct, kw_only=True):
    status: int
    error: Problem
    stream_id: Lane | UnsetType = UNSET
    response_id: str | UnsetType = UNSET
    conversation: str | UnsetType | None = UNSET


class SteerName(Struct):
    """A steer, and the response that it steers."""

    id: str
    previous_response_id: str


class Successor(Struct):
    """The response that contains the steer, if the steer was sent again."""

    successor_id: str


class SteerAccepted(Struct, kw_only=True):
    """The server has stored the steer."""

    sequence_number: int
    steer: SteerName
    stream_id: Lane | UnsetType = UNSET
    holdline: Successor | UnsetType = UNSET


class SteerPending(Struct, kw_only=True):
    """The steer waits for results or approvals that the client owes."""

    sequence_number: int
    steer: SteerName
    reason: Literal["waiting_for_required_input"]
    required_input: list[dict[str, Any]]
    stream_id: Lane | UnsetType = UNSET


class SteerError(Struct):
    """The reason for which a steer has no effect."""

    type: Literal["invalid_request_error"]
    code: str
    message: str


class GivenBack(Struct):
    """A steer with its input. Without `id`, the server has not accepted the steer."""

    previous_response_id: str
    input: str | list[dict[str, Any]]
    id: str | UnsetType = UNSET


class SteerFailed(Struct, kw_only=True):
    """The steer has no effect, and the server gives its input back."""

    sequence_number: int
    error: SteerError
    steer: GivenBack
    stream_id: Lane | UnsetType = UNSET


MESSAGES: Final[dict[str, type[Struct]]] = {
    **tagged(Welcome, "holdline:welcome"),
    **tagged(Queued, "holdline:queued"),
    **tagged(Pong, "holdline:pong"),
    **tagged(Authenticated, "holdline:authenticated"),
    **tagged(Expiring, "holdline:expiring"),
    **tagged(Degraded, "holdline:degraded"),
    **tagged(Ended, "holdline:ended"),
    **tagged(State, "holdline:state"),
    **tagged(Timeline, "holdline:timeline"),
    **CONVERSATION_MESSAGES,
    **tagged(Refused, "error"),
    **tagged(SteerAccepted, "response.steer.accepted"),
    **tagged(SteerPending, "response.steer.pending"),
    **tagged(SteerFailed, "response.steer.failed"),
}
